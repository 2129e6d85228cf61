"""The tiny world without its Flux: pictures, captions, autoencoder, judge and their weights."""

from __future__ import annotations

import json
from random import Random

import pytest
import torch
from judged import ASKED, figures, recorded, weights_now
from safetensors import safe_open

from tinyworld.evaluate import found, obeyed, prompts_with, prompts_without, shows
from tinyworld.judge import Judge
from tinyworld.judge_networks import HEADS, NETWORKS, NO_SHAPE
from tinyworld.make.data import random_scenes, render_all
from tinyworld.make.judge import round_trip, with_misshapen
from tinyworld.make.misshapen import Misshapen, likeness_to_disc
from tinyworld.models import WEIGHTS, TinyAutoencoder, load_weights
from tinyworld.pictures import DISTANCE, render
from tinyworld.vocabulary import (
    KINDS,
    RELATIONS,
    SHAPES,
    STYLES,
    Scene,
    Thing,
    Wording,
    caption,
    family,
    synonyms,
)


@pytest.fixture(scope="module")
def autoencoder() -> TinyAutoencoder:
    model = TinyAutoencoder()
    model.load_state_dict(load_weights("vae"))
    return model.requires_grad_(False)


def draw(scenes: list[Scene], seed: int = 0) -> torch.Tensor:
    return render(scenes, torch.Generator().manual_seed(seed))


def test_the_same_seed_draws_the_same_pictures() -> None:
    scenes = random_scenes(6, 1)
    assert torch.equal(draw(scenes), draw(scenes))
    assert not torch.equal(draw(scenes), draw(scenes, seed=1))


def test_every_shape_fills_its_middle_or_is_a_ring_and_ends_within_its_radius() -> None:
    far = torch.linspace(0, 6.28, 50)
    for name, distance in DISTANCE.items():
        centre = distance(torch.zeros(1), torch.zeros(1))
        assert (centre > 0).item() == (name == "ring")
        assert (distance(1.2 * far.cos(), 1.2 * far.sin()) > 0).all(), name


def test_above_is_above_and_the_inner_thing_is_on_top() -> None:
    red, blue = Thing(1, 0, 0), Thing(1, 1, 0)  # squares
    above, below, inside = (
        draw([Scene((red, blue), list(RELATIONS).index(name), 0)])[0]
        for name in ("above", "below", "inside")
    )
    reddish = [(picture[0] - picture[2]) for picture in (above, below, inside)]
    assert reddish[0][34, 64] > 0.5 > 0 > reddish[0][94, 64]
    assert reddish[1][94, 64] > 0.5 > 0 > reddish[1][34, 64]
    assert reddish[2][64, 64] > 0.5 > 0 > reddish[2][64, 26]


def test_styles_differ_from_plain_in_their_pictures() -> None:
    pictures = draw([Scene((Thing(1, 1, style),), None, 1) for style in range(len(STYLES))])
    for styled in pictures[1:]:
        assert (styled - pictures[0]).abs().mean() > 0.02


def test_captions_say_what_the_scene_holds_or_leave_it_out() -> None:
    rng = Random(0)
    for scene in random_scenes(200, 2):
        text = caption(scene, rng)
        others = set(SHAPES) - {list(SHAPES)[thing.shape] for thing in scene.things}
        assert not set(text.split()) & others


def test_no_word_stands_for_two_concepts() -> None:
    words = [w for table in KINDS.values() for name, more in table.items() for w in (name, *more)]
    assert len(words) == len(set(words))
    assert all(len(synonyms(name)) >= 2 for table in KINDS.values() for name in table)


def test_an_unknown_concept_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"Got concept 'dog', expected one .* circle"):
        family("dog")


def test_captions_are_empty_as_often_as_asked() -> None:
    scene = random_scenes(1, 3)[0]
    assert caption(scene, Random(0), Wording(empty=1)) == ""


@pytest.mark.parametrize("concept", ["star", "red", "striped", "above"])
def test_evaluation_prompts_name_the_concept_or_do_not(concept: str) -> None:
    named, others = prompts_with(concept, 20), prompts_without(concept, 20)
    assert all(concept in one.text.split() and shows(one.scene, concept) for one in named)
    assert not any(concept in one.text.split() or shows(one.scene, concept) for one in others)
    assert {one.text for one in named}.isdisjoint(one.text for one in prompts_with(concept, 20, 1))


def test_the_code_is_what_flux_expects(autoencoder: TinyAutoencoder) -> None:
    pictures = render_all(random_scenes(200, 5), 6).float() / 127.5 - 1
    latents = (autoencoder.encode(pictures) - 0.1159) * 0.3611
    assert latents.shape == (200, 16, 16, 16)
    assert latents.mean().abs() < 0.1
    assert 0.9 < latents.std() < 1.1


def test_the_autoencoder_gives_pictures_back(autoencoder: TinyAutoencoder) -> None:
    pictures = render_all(random_scenes(50, 7), 8).float() / 255
    assert (round_trip(autoencoder, pictures, 0.0) - pictures).abs().mean() < 0.03


SURE = {"judge": 99, "judge2": 96}  # percent; the second one is there to agree, not to be better


@pytest.mark.parametrize("judge", NETWORKS)
def test_a_judge_is_right_about_unseen_pictures(judge: str) -> None:
    for right in figures()[judge]["accuracy"].values():
        assert set(right) == set(HEADS)
        assert min(right.values()) >= SURE[judge], right


@pytest.mark.parametrize("judge", NETWORKS)
def test_a_judge_sees_each_concept_on_unseen_pictures(judge: str) -> None:
    for right in figures()[judge]["recall"].values():
        assert len(right) > 20
        assert min(right.values()) >= SURE[judge], right


def test_the_record_of_the_judge_is_of_the_committed_weights() -> None:
    assert recorded()["weights"] == weights_now(), f"Measure again: {ASKED}=1 pytest tests/world"
    for figures_of_one in recorded()["figures"].values():
        assert set(figures_of_one) == {"accuracy", "recall"}


@pytest.mark.parametrize("name", NETWORKS)
def test_known_pictures_give_known_figures(name: str) -> None:
    """A judge on drawn scenes: each concept is found where it is, and what was asked is there."""
    judge = Judge.load(name)
    for concept in ("star", "striped", "red", "above", "right of", "inside"):
        named, others = prompts_with(concept, 60), prompts_without(concept, 60)
        there = judge.look(draw([one.scene for one in named]))
        absent = judge.look(draw([one.scene for one in others]))
        assert found(concept, named, there).float().mean() >= (SURE[name] - 1) / 100
        assert obeyed(named, there).mean() >= (SURE[name] - 1) / 100
        if family(concept) != "relation":
            assert found(concept, others, absent).float().mean() <= 0.02


def test_a_swapped_pair_is_not_the_relation_that_was_asked() -> None:
    named = prompts_with("above", 60)
    swapped = [
        Scene(one.scene.things, list(RELATIONS).index("below"), one.scene.background)
        for one in named
    ]
    verdict = Judge.load().look(draw(swapped))
    assert found("above", named, verdict).float().mean() <= 0.02
    assert obeyed(named, verdict).mean() <= 0.5
    assert obeyed(named, verdict, but="above").mean() >= 0.98  # all else is there


def test_what_looks_like_a_disc_is_never_none() -> None:
    """Half a circle and half a ring is a disc: the judge was taught once that it is no shape."""
    axis = torch.arange(128) - 63.5
    x, y, radius = (
        axis.expand(1, 128, 128),
        axis[:, None].expand(1, 128, 128),
        torch.full((1, 1, 1), 40.0),
    )
    assert likeness_to_disc(x.hypot(y) - 30, x, y) > 0.97
    assert likeness_to_disc(torch.maximum(x.abs(), y.abs()) - 30, x, y) < 0.9
    make = Misshapen(0)
    shapes = [make([NO_SHAPE], x, y, radius) for _ in range(60)]
    assert max(likeness_to_disc(one, x, y) for one in shapes) < 0.92


@pytest.mark.parametrize("name", NETWORKS)
def test_a_shape_that_is_none_is_found_to_be_none(name: str) -> None:
    scenes = with_misshapen(random_scenes(300, 103), 1.0, 0)
    pictures = render_all(scenes, 104, distance=Misshapen(105)).float() / 255
    verdict = Judge.load(name).look(pictures)
    for shape in SHAPES:
        assert found(shape, [], verdict).float().mean() <= 0.06, shape


def test_the_weights_are_small_half_precision_and_say_what_made_them() -> None:
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert [file.stem for file in files] == ["flux", "judge", "judge2", "sd35", "text", "vae"]
    assert sum(file.stat().st_size for file in files) <= 32 * 2**20
    for file in files:
        with safe_open(file, framework="pt") as weights:
            metadata = weights.metadata()
        assert json.loads(metadata["made_by"]).startswith("python -m tinyworld.make.")
        assert {"seed", "torch"} <= set(metadata)
