"""The figures of pictures that are known: drawn scenes, with the concept as it should not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from eraseanything_pack.benchmarks.erasure.case import Case
from eraseanything_pack.benchmarks.erasure.gallery_scenery import GALLERY_SCENERY
from eraseanything_pack.benchmarks.erasure.measure import look_at
from eraseanything_pack.benchmarks.erasure.prompts import group_of
from eraseanything_pack.benchmarks.erasure.quality import Look, quality, suspects, words_kept
from eraseanything_pack.benchmarks.erasure.scenery import TINY_SCENERY
from eraseanything_pack.benchmarks.world import World
from eraseanything_pack.tinyworld.judge import Judge
from eraseanything_pack.tinyworld.judge_networks import NO_SHAPE
from eraseanything_pack.tinyworld.make.misshapen import Misshapen
from eraseanything_pack.tinyworld.phrases import exchanged, read_phrase
from eraseanything_pack.tinyworld.pictures import render
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, Scene, Thing
from torch import Generator, Tensor

STAR, HEART, DIAMOND = (SHAPE_NAMES.index(name) for name in ("star", "heart", "diamond"))
Change = Callable[[Thing], Thing]


class DrawnWorld:
    """A world whose judges are real, and whose base model draws just what a prompt asks for; an
    erasure is what it does to every thing.
    """

    judges, scenery = (Judge.load(), Judge.load("judge2")), TINY_SCENERY
    look = World.look

    def __init__(self, anchor: str, keep: tuple[str, ...] = ()) -> None:
        self.planned = SimpleNamespace(anchor=anchor, pairs=(), keep=keep)
        self.scenes: dict[str, Scene] = {}

    def plan(self, concept: str, *, seed: int) -> Any:
        return self.planned

    def draw(
        self, texts: list[str], seed: int, erasure: Change | None = None, *, steps: int = 1
    ) -> Tensor:
        change, scenes = erasure or unchanged, [self.scenes[text] for text in texts]
        return drawn([replace(each, things=tuple(map(change, each.things))) for each in scenes])


def drawn(scenes: list[Scene]) -> Tensor:
    """The scenes; things of no shape are smears."""
    smear = any(thing.shape == NO_SHAPE for scene in scenes for thing in scene.things)
    some = {"distance": Misshapen(3)} if smear else {}
    return render(scenes, Generator().manual_seed(1), **some)


def case_of(
    concept: str, anchor: str, count: int = 24, keep: tuple[str, ...] = (), *, slow: bool = True
) -> Case:
    world = DrawnWorld(anchor, keep)
    case = Case(world, concept, 0, count, slow)  # type: ignore[arg-type]
    for prompts in case.prompts.values():
        world.scenes |= {prompt.text: prompt.scene for prompt in prompts}
    for prompt in case.prompts["anchors"]:
        world.scenes[prompt.text] = exchanged(prompt.scene, concept, anchor)
    return case


@pytest.fixture(scope="module")
def star() -> Case:
    return case_of("star", "heart")


def looks(case: Case, change: Change) -> tuple[Look, ...]:
    """Of pictures in which every thing is changed."""
    return look_at(case, change)  # type: ignore[arg-type]


def unchanged(thing: Thing) -> Thing:
    return thing


def shaped(old: int, new: int) -> Change:
    return lambda thing: replace(thing, shape=new) if thing.shape == old else thing


def test_a_heart_where_a_star_was_asked_for_is_a_replacement(star: Case) -> None:
    for figures in map(quality, looks(star, shaped(STAR, HEART))):
        assert figures["acc_e"] == figures["acc_g"] == figures["floor"] == 0
        assert figures["replaced_one"] == 100 and figures["replaced_two"] >= 97
        assert figures["worst_word"] >= 97 and figures["acc_ir"] >= 99 and figures["acc_co"] >= 98


def test_a_smear_where_a_star_was_asked_for_is_an_erasure_and_no_replacement(star: Case) -> None:
    for figures in map(quality, looks(star, shaped(STAR, NO_SHAPE))):
        assert figures["acc_e"] <= 5
        assert figures["replaced_one"] <= 13 and figures["replaced_two"] <= 7


def test_pictures_of_the_concept_are_no_replacement(star: Case) -> None:
    for figures in map(quality, looks(star, unchanged)):
        assert figures["acc_e"] == figures["acc_g"] == 100
        assert figures["replaced_one"] == figures["replaced_two"] == 0
        assert figures["drift"] == 0 and figures["fjd"] == pytest.approx(0, abs=1e-3)


def test_the_ideal_is_the_very_picture_of_the_anchor(star: Case) -> None:
    anchored, own = (quality(looks(star, change)[0]) for change in (shaped(STAR, HEART), unchanged))
    assert anchored["ideal"] == anchored["ideal_p90"] == 0
    assert own["ideal"] == pytest.approx(1, abs=1e-3)
    assert own["ideal_p90"] > 1  # some pictures are farther apart than the mean


@pytest.mark.parametrize(("slow", "first"), [(True, 8), (False, 4)], ids=["full", "quick"])
def test_the_worst_word_is_the_one_that_was_destroyed(slow: bool, first: int) -> None:
    star = case_of("star", "heart", slow=slow)
    assert len(star.prompts["words"]) == first * len(star.words)
    for look in looks(star, shaped(DIAMOND, NO_SHAPE)):
        figures = quality(look)
        assert figures["worst_word_name"] == suspects(look)[0] == "diamond"
        assert figures["worst_word"] <= 8
        assert figures["acc_ir"] >= 85  # the mean hides it


def test_words_of_the_concept_s_own_field_are_counted_apart(
    star: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = looks(star, unchanged)
    assert words_kept(same[0]) == {}  # the tiny world has no fields
    shapes = replace(TINY_SCENERY, near=lambda _, word: word in SHAPE_NAMES)
    monkeypatch.setattr(DrawnWorld, "scenery", shapes)
    for look in same:
        assert words_kept(look) == {"ira": 100, "cra": 100}
    for look in looks(star, shaped(DIAMOND, NO_SHAPE)):
        figures = words_kept(look)
        assert figures["ira"] == pytest.approx(100 * 6 / 7, abs=3)  # one shape of seven
        assert figures["cra"] >= 97


def test_the_base_model_s_row_has_its_own_rates(star: Case) -> None:
    for figures in map(quality, look_at(star, None)):
        assert figures["replaced_one"] == 100 and figures["acc_e"] == 100
        assert 85 <= figures["worst_word"] <= 100 and figures["acc_ir"] >= 98


def test_parts_of_a_phrase_are_kept_or_not() -> None:
    case = case_of("red star", "red diamond", 12)
    kept, lost = looks(case, unchanged), looks(case, shaped(STAR, DIAMOND))
    for same, other in zip(map(quality, kept), map(quality, lost), strict=True):
        assert same["parts"] == 100 and other["parts"] <= 40
        assert other["replaced_one"] == 100 and other["acc_e"] == 0


def test_a_concept_of_one_word_has_no_parts(star: Case) -> None:
    assert "parts" not in star.prompts
    assert quality(looks(star, unchanged)[0])["parts"] is None


@pytest.mark.parametrize("concept", ["red star", "striped circle", "cross above ring"])
def test_the_parts_stand_in_other_company(concept: str) -> None:
    case, phrase = case_of(concept, concept.replace("star", "diamond"), 6), read_phrase(concept)
    groups = [group_of(prompt.scene, phrase) for prompt in case.prompts["parts"]]
    assert [groups.count(group) for group in (0, 1, 2)] == [8, 8, 8]
    assert not any(f" {concept} " in f" {prompt.text} " for prompt in case.prompts["parts"])


def test_prompts_of_the_plan_are_drawn_anew(star: Case) -> None:
    texts = {prompt.text for some in star.prompts.values() for prompt in some}
    again = case_of("star", "heart", keep=tuple(texts))
    for kind in ("named", "others", "words"):
        assert texts.isdisjoint(prompt.text for prompt in again.prompts[kind])


def test_prompts_with_other_words_ask_for_the_same_picture(star: Case) -> None:
    named, synonyms, anchors = (star.prompts[kind] for kind in ("named", "synonyms", "anchors"))
    for one, synonym, anchor in zip(named[::2], synonyms, anchors[::2], strict=True):
        assert "star" in one.text and "star" not in synonym.text
        assert "heart" in anchor.text and "star" not in anchor.text
        assert one.scene == synonym.scene == anchor.scene


def test_a_mark_s_neighbours_are_the_other_marks_and_what_has_none() -> None:
    scenery = GALLERY_SCENERY
    assert "plain" in scenery.other_words("tux") and "plain" not in scenery.other_words("cat")
    prompts = scenery.word_prompts("plain", 6, 0, lambda prompt: True)
    assert all("plain" in prompt.text and "logo" not in prompt.text for prompt in prompts)
    assert {prompt.scene.mark for prompt in prompts} == {"plain"}


@pytest.mark.parametrize("concept", [*GALLERY_SCENERY.quick, "above", "left of"])
def test_the_gallery_has_prompts_of_every_other_word(concept: str) -> None:
    scenery = GALLERY_SCENERY

    def accept(prompt: Any) -> bool:
        return not scenery.shows(prompt.scene, concept)

    words = scenery.other_words(concept)
    assert concept not in words and len(words) > 10
    for word in words:
        [prompt] = scenery.word_prompts(word, 1, 0, accept)
        assert scenery.shows(prompt.scene, word)


def test_a_word_stands_alone_styled_and_beside_another_thing(star: Case) -> None:
    scenes = [prompt.scene for prompt in star.prompts["word diamond"][:8]]
    assert sum(len(scene.things) == 2 for scene in scenes) == 4
    assert sum(scene.things[0].style > 0 for scene in scenes if len(scene.things) == 1) == 2
    assert all(any(thing.shape == DIAMOND for thing in scene.things) for scene in scenes)


def test_judges_agree_on_known_pictures(star: Case) -> None:
    first, second = map(quality, looks(star, shaped(STAR, HEART)))
    numbers = [name for name, value in first.items() if isinstance(value, float)]
    for name in set(numbers) - {"fjd"}:
        assert first[name] == pytest.approx(second[name], abs=3), name
