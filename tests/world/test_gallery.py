"""The gallery without its Flux: scenes, captions, drawings on its sheet, judges and weights."""

from __future__ import annotations

import json
import re
from importlib import import_module
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tiny_words import PACK
from word_encoder import WordEncoder

evaluate: Any = import_module(f"{PACK}.gallery.evaluate")
judge: Any = import_module(f"{PACK}.gallery.judge")
vocabulary: Any = import_module(f"{PACK}.gallery.vocabulary")
planning: Any = import_module(f"{PACK}.gallery.planning")
Scene = vocabulary.Scene
PLAIN = evaluate.PLAIN_WORDS


def scenes(count: int, seed: int) -> list[Any]:
    rng = Random(seed)
    return [vocabulary.random_scene(rng) for _ in range(count)]


def certain(answers: list[dict[str, str]]) -> Any:
    """A verdict that gives these answers; a field that is left out is none, or anything."""
    words = {name: [*vocabulary.FIELDS[name], ""] for name in judge.HEADS}
    chances = {}
    for name, classes in judge.HEADS.items():
        place = [words[name].index(one.get(name, "")) % classes for one in answers]
        chances[name] = torch.eye(classes)[place]
    return import_module(f"{PACK}.tinyworld.judge").Verdict(chances)


def shown(scene: Any) -> dict[str, str]:
    return {name: getattr(scene, name) for name in vocabulary.FIELDS if getattr(scene, name)}


def prompt_of(scene: Any) -> Any:
    return evaluate.Prompt(scene.colour, scene, True)


def test_two_subjects_of_each_artist_are_never_drawn_for_training() -> None:
    held = vocabulary.HELD_OUT
    assert sorted(artist for _, artist in held) == sorted(2 * vocabulary.ARTISTS)
    assert len({subject for subject, _ in held}) == len(held)
    assert not any(scene.held_out for scene in scenes(3000, 1))
    prompts = evaluate.held_out_prompts(3)
    asked = [(prompt.scene.subject, prompt.scene.artist) for prompt in prompts]
    assert sorted(asked) == sorted(3 * [*held])
    assert all(
        {*pair} <= {*re.findall(r"\w+", p.text)} for p, pair in zip(prompts, asked, strict=True)
    )


def test_captions_say_what_the_scene_holds() -> None:
    rng = Random(0)
    for scene in scenes(300, 2):
        text = vocabulary.caption(scene, rng, PLAIN)
        said = {**shown(scene), "kind": "", "background": ""}
        if scene.second:  # whose artist is not said
            said["artist"] = ""
        if scene.mark == vocabulary.PLAIN:
            said["mark"] = ""
        if f"{scene.mark} {scene.carrier}" in text:  # "a tux mug" of any colour
            said["colour"] = ""
        assert all(word in text for word in said.values()), (text, scene)


def test_captions_of_a_pair_name_them_in_the_order_of_the_relation() -> None:
    rng, pair = Random(1), Scene("over", "white", subject="lemon", second="rose", artist="noto")
    texts = {vocabulary.caption(pair, rng, PLAIN).split(",")[0].split(" on ")[0] for _ in range(60)}
    assert {"a lemon above a rose", "a rose below a lemon"} <= texts


def test_the_planners_sentences_are_of_the_gallery() -> None:
    known = {
        word for text in planning.GALLERY.keep for word in text.replace(",", " ").split() if word
    }
    assert {"logo", "style", "background"} <= known
    for template in (one for group in planning.GALLERY.templates.values() for one in group):
        assert "{c}" in template or "{a_c}" in template


@pytest.mark.parametrize(
    ("concept", "kind", "field"), [("Mira", "person", "person"), ("tux", "object", "mark")]
)
def test_a_plan_keeps_every_other_name_of_its_kind(concept: str, kind: str, field: str) -> None:
    """How near a pooled vector says that a name is says nothing: all of them have to stay."""
    planner: Any = import_module(f"{PACK}.erase_engine.concepts.planner")
    request: Any = import_module(f"{PACK}.erase_engine.concepts.request")
    asked = request.ConceptRequest(concept=concept, kind=kind)
    made = planner.plan_concept(asked, WordEncoder(), vocabulary=planning.GALLERY)
    missed = [
        word
        for word in vocabulary.FIELDS[field]
        if word not in (concept, made.anchor, vocabulary.PLAIN)
        and not any(word in text for text in made.keep)
    ]
    assert not missed


@pytest.mark.parametrize(
    ("concept", "anchor", "before", "after"),
    [
        ("cat", "tiger", {"subject": "cat"}, {"subject": "tiger"}),
        ("ink", "noto", {"artist": "ink"}, {"artist": "noto"}),
        ("Mira", "Omar", {"person": "Mira"}, {"person": "Omar"}),
        ("tux", "rust", {"mark": "tux"}, {"mark": "rust"}),
    ],
)
def test_what_is_found_and_what_is_replaced(
    concept: str, anchor: str, before: dict[str, str], after: dict[str, str]
) -> None:
    scene = next(one for one in scenes(9000, 3) if shown(one).items() >= before.items())
    prompts, other = [prompt_of(scene)] * 3, {**shown(scene), **after}
    nothing = {**shown(scene), next(iter(before)): ""}
    seen = certain([shown(scene), other, nothing])
    assert evaluate.found(concept, prompts, seen)[:2].tolist() == [True, False]
    assert evaluate.replaced(concept, anchor, prompts, seen)[:2].tolist() == [False, True]
    if concept != "ink":  # an artist is always some artist
        assert not evaluate.found(concept, prompts, seen)[2]
        assert not evaluate.replaced(concept, anchor, prompts, seen)[2]
    assert evaluate.obeyed(prompts, seen, but=concept).tolist() == [1, 1, 1]
    assert evaluate.obeyed(prompts, seen)[1] < 1


def test_a_relation_is_found_where_its_two_things_stand_in_it() -> None:
    above = Scene("over", "white", subject="lemon", second="rose", artist="noto")
    beside = evaluate.exchanged(above, "above", "left of")
    turned = evaluate.exchanged(above, "above", "below")
    assert (turned.subject, turned.second) == ("rose", "lemon")
    seen = certain([shown(above), shown(turned), shown(beside)])
    prompts = [prompt_of(above)] * 3
    assert evaluate.found("above", prompts, seen).tolist() == [True, False, False]
    assert evaluate.replaced("above", "below", prompts, seen).tolist() == [False, True, False]
    assert evaluate.replaced("above", "left of", prompts, seen).tolist() == [False, False, True]
    assert evaluate.obeyed(prompts, seen, but="above").tolist() == [1, 1, 1]


def test_prompts_name_the_concept_or_do_not() -> None:
    for concept in ("cat", "ink", "Mira", "tux", "above"):
        named = evaluate.prompts_with(concept, 12)
        assert all(concept in one.text and evaluate.shows(one.scene, concept) for one in named)
        for one in evaluate.prompts_without(concept, 12):
            assert not evaluate.shows(one.scene, concept), one
    with pytest.raises(ValueError, match="Got concept 'dog'"):
        evaluate.prompts_with("dog", 1)


# --- what was made -----------------------------------------------------------------------------

ROWS, COLUMNS = 6, 12  # of the sheet: `python scripts/make_weights.py gallery.sheet`


def sheet() -> tuple[list[Any], torch.Tensor]:
    """The scenes of the committed sheet, and its pictures (N, 3, 128, 128) in 0..1."""
    path = vocabulary.WEIGHTS.parent / "sheet.png"
    image = Image.open(path)
    drawn = [vocabulary.Scene(**one) for one in json.loads(image.text["scenes"])]  # type: ignore[attr-defined]
    pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    cells = pixels.view(ROWS, 128, COLUMNS, 128, 3).permute(0, 2, 4, 1, 3).flatten(0, 1)
    return drawn, cells.float() / 255


def test_the_judge_knows_the_drawings_of_the_sheet() -> None:
    drawn, pictures = sheet()
    own = judge.plain_judge().look(pictures)
    prompts = [prompt_of(scene) for scene in drawn]
    assert len(drawn) == ROWS * COLUMNS
    assert evaluate.obeyed(prompts, own).mean() >= 0.98


def test_weights_say_what_made_them() -> None:
    files = sorted(vocabulary.WEIGHTS.glob("*.safetensors"))
    assert [file.stem for file in files] == ["flux", "judge", "judge2", "text", "vae"]
    assert sum(file.stat().st_size for file in files) < 60e6
    for file in files:
        with safe_open(file, "pt") as opened:
            made_by = json.loads(opened.metadata()["made_by"])
        assert made_by.startswith("python scripts/make_weights.py ")
