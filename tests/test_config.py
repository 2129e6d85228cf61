"""The configuration: recipes are complete, errors name the field, JSON is exact."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from erase_engine.config import RECIPES, EraseConfig, LoraConfig, LossWeights
from erase_engine.entrance_config import SOFTEST

RANGED = [one for one in dataclasses.fields(EraseConfig) if one.metadata]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name: str) -> None:
    config = EraseConfig.from_recipe(name, seed=2**64 - 1, learning_rate=1 / 3)
    again = EraseConfig.from_json(config.to_json())
    assert again == config
    assert type(again.attention_blocks) is type(config.attention_blocks)
    assert again.to_json() == config.to_json()


def test_json_is_one_line_of_plain_numbers() -> None:
    text = EraseConfig.from_recipe("paper").to_json()
    assert "\n" not in text
    assert json.loads(text)["lora"]["alpha"] == 8.0


@pytest.mark.parametrize("name", RECIPES)
def test_overrides_win_over_the_recipe(name: str) -> None:
    lora = LoraConfig(rank=2, init="kaiming")
    config = EraseConfig.from_recipe(name, batch=7, lora=lora, negative_guidance=0.5)
    assert (config.recipe, config.batch, config.lora) == (name, 7, lora)
    assert config.negative_guidance == 0.5


def test_a_recipe_is_only_data() -> None:
    for name, values in RECIPES.items():
        assert EraseConfig(**{**values, "recipe": name}) == EraseConfig.from_recipe(name)


def test_what_the_recipes_promise() -> None:
    paper = EraseConfig.from_recipe("paper")
    assert paper.attention_form == "sum" and paper.attention_blocks == (-1,)
    assert paper.weights == LossWeights(
        esd=1.0, attention=1e-3, keep=0.0, rsc=0.1, reconstruction=0.1
    )
    assert paper.lora.init == "gaussian" and paper.lora.targets == "text_qk"
    assert (paper.steps, paper.batch, paper.sampling, paper.trajectory_steps) == (
        100,
        1,
        "fresh",
        28,
    )


def test_hardened_is_fast_with_more_under_attack() -> None:
    fast, hardened = (EraseConfig.from_recipe(name) for name in ("fast", "hardened"))
    assert dataclasses.replace(hardened, recipe="fast", entrance=fast.entrance) == fast
    assert hardened.entrance.soft == SOFTEST  # every word that is solved is trained
    word, phrase = hardened.after_solving(solved=True, soft=True), hardened.after_solving()
    assert (word.steps, word.searches) == (84, 20)
    assert (phrase.steps, phrase.cooldown, phrase.attack) == (320, 0.6, 0.4)
    usual, unsolved = (one.after_solving(phrase=False) for one in (fast, hardened))
    assert dataclasses.replace(unsolved, recipe="fast", entrance=usual.entrance) == usual
    several = hardened.for_concepts(2).after_solving(solved=True, soft=True)
    assert several.steps == 0


def test_a_short_training_samples_fewer_paths() -> None:
    config = EraseConfig(trajectories=40, steps=160, batch=8)
    assert config.paths == 40
    assert dataclasses.replace(config, steps=4).paths == 16
    assert dataclasses.replace(config, steps=1, batch=1).paths == 1


@pytest.mark.parametrize(
    ("how", "steps", "searches", "batch", "paths", "keep_paths"),
    [
        ({"solved": True, "soft": False}, 20, 20, 4, 12, 0),
        ({"solved": True, "soft": True}, 52, 20, 4, 12, 32),
        ({"solved": False, "soft": True, "phrase": False}, 160, 0, 8, 48, 80),
        ({"solved": False, "soft": True}, 240, 0, 8, 48, 320),
    ],
)
def test_what_fast_does_after_its_closed_form(
    how: dict[str, bool], steps: int, searches: int, batch: int, paths: int, keep_paths: int
) -> None:
    left = EraseConfig.from_recipe("fast").after_solving(**how)
    assert (left.steps, left.searches, left.batch) == (steps, searches, batch)
    assert (left.paths, left.keep_paths) == (paths, keep_paths)


def test_a_limit_of_steps_and_own_paths_are_kept_after_the_closed_form() -> None:
    fast = EraseConfig.from_recipe("fast", trajectories=100, keep_trajectories=0)
    trained = fast.after_solving()
    assert (trained.trajectories, trained.keep_trajectories) == (400, 800)
    assert dataclasses.replace(fast, trajectories=4000).after_solving().trajectories == 4096
    assert (trained.batch, trained.keep_per_step) == (8, 8)
    large = dataclasses.replace(fast, batch=1000, keep_per_step=600).after_solving()
    assert (large.batch, large.keep_per_step) == (1024, 1024)
    assert (trained.beta_2, trained.importance) == (0.95, 0.7)
    assert (trained.steps, trained.cooldown, trained.settled) == (240, 0.4, 0.1)
    assert trained.attack == 0.25
    assert dataclasses.replace(fast, steps=5).after_solving().steps == 8
    assert trained.lora == LoraConfig(rank=16, alpha=16.0, targets=fast.lora.targets)
    assert trained.learning_rate == pytest.approx(1.5 * fast.learning_rate)
    assert dataclasses.replace(fast, learning_rate=0.9).after_solving().learning_rate == 1
    for how in ({"solved": True, "soft": True}, {"phrase": False}):
        word = fast.after_solving(**how)
        assert (word.beta_2, word.importance, word.lora) == (fast.beta_2, 0, fast.lora)
        assert (word.cooldown, word.settled, word.attack) == (0.7, 0, 0)
    settled = dataclasses.replace(fast, settled=0.5)
    assert settled.after_solving(solved=True, soft=True).settled == 0
    short = dataclasses.replace(fast, steps=12).after_solving(solved=True, soft=True)
    assert (short.steps, short.searches) == (12, 10)
    assert dataclasses.replace(fast, steps=3).after_solving(solved=True).steps == 3
    for recipe in ("instant", "paper"):
        config = EraseConfig.from_recipe(recipe)
        assert config.after_solving() == config.after_solving(solved=True, soft=True) == config


def test_alpha_is_the_rank_unless_given() -> None:
    assert LoraConfig(rank=4).alpha == 4.0
    assert LoraConfig(rank=4, alpha=1).alpha == 1


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EraseConfig().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("one", RANGED, ids=lambda one: one.name)
def test_a_value_outside_its_range_is_an_error_that_names_it(one: dataclasses.Field) -> None:
    wrongs = (one.metadata["low"] - 1, float("nan"), float("inf"), 10**400, "1", True, None)
    for wrong in wrongs:
        with pytest.raises(ValueError, match=rf"Got {one.name} .*expected.*Set {one.name}"):
            EraseConfig.from_recipe("fast", **{one.name: wrong})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"recipe": "quick"},
            "Got recipe 'quick', expected one of instant, fast, hardened, paper.",
        ),
        ({"solver": "adam"}, "Got solver 'adam', expected one of alternate, budget"),
        ({"attention_form": "mean"}, "expected one of ratio, sum"),
        ({"width": 520}, "Got width 520 pixels, expected a multiple of 16. Use 512."),
        ({"height": 8200}, "Got height 8200, expected a whole number from 16 to 8192"),
        ({"guidance": -1}, "Got guidance -1, expected a number from 0 to 100"),
        ({"attention_blocks": ()}, "Got attention_blocks (), expected"),
        ({"attention_blocks": (0, 0)}, "Got attention_blocks (0, 0), expected"),
        ({"attention_blocks": "last"}, "Got attention_blocks 'last', expected"),
        ({"attention_blocks": (True,)}, "Got attention_blocks (True,), expected"),
        ({"attention_blocks": (0,) * 999}, "Got attention_blocks (0, 0, 0"),
        ({"steps": 1.5}, "Got steps 1.5, expected a whole number from 0 to 100000"),
        ({"steps": 16**5000}, "Got steps a number of 20001 bits, expected a whole number"),
    ],
)
def test_wrong_choices(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        EraseConfig(**values)  # type: ignore


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rank": 0}, "Got rank 0, expected a whole number from 1 to 256"),
        ({"alpha": 0}, "Got alpha 0, expected"),
        ({"targets": "all"}, "Got targets 'all', expected one of text_in, text_in_pooled, text_qk"),
        ({"init": "zeros"}, "Got init 'zeros', expected one of kaiming, gaussian"),
    ],
)
def test_wrong_adapters(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        LoraConfig(**values)  # type: ignore


def test_weights_must_erase_something() -> None:
    with pytest.raises(ValueError, match="nothing would be erased"):
        LossWeights(esd=0, attention=0)
    with pytest.raises(ValueError, match="Got keep -1"):
        LossWeights(keep=-1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Got text that is not JSON"),
        ("[]", "Got list for EraseConfig, expected an object"),
        ('{"stesp": 3}', "Got stesp for EraseConfig, expected fields out of steps, "),
        ('{"lora": 3}', "Got int for LoraConfig, expected an object"),
        ('{"weights": {"esp": 3}}', "Got esp for LossWeights, expected fields out of esd, "),
        ('{"steps": NaN}', "Got steps nan, expected"),
        ('{"steps": 1, "steps": 2}', "not JSON ('steps' stands in it twice), expected a Erase"),
        ('{"lora": {"rank": 1, "rank": 2}}', "'rank' stands in it twice"),
    ],
)
def test_json_that_is_not_a_config(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        EraseConfig.from_json(text)


def test_unknown_recipe_and_field() -> None:
    with pytest.raises(ValueError, match="Got recipe 'best', expected one of"):
        EraseConfig.from_recipe("best")
    with pytest.raises(ValueError, match="Got ranc for EraseConfig"):
        EraseConfig.from_recipe("fast", ranc=8)


def test_a_name_that_is_not_a_field_is_told_beside_those_most_like_it() -> None:
    for name in ("keep_per_stepp", "x" * 9000, ""):
        with pytest.raises(ValueError, match=r"expected fields out of .* and 25 more") as error:
            EraseConfig.from_recipe("fast", **{name: 1})  # type: ignore
        assert len(str(error.value)) < 400
    with pytest.raises(ValueError, match=r"Got stps for EraseConfig, expected fields out of steps"):
        EraseConfig.from_recipe("fast", stps=1)


def test_a_list_that_is_endless_as_text_is_no_number() -> None:
    """YAML can say it in a few letters; Python would write it in more than any memory holds."""
    endless: list[object] = []
    for _ in range(60):
        endless = [endless, endless]
    with pytest.raises(ValueError, match=r"Got guidance \[\[\[.*\]\]\], expected a number"):
        EraseConfig(guidance=endless)  # type: ignore


def test_blocks_that_the_model_has_not_are_named() -> None:
    assert EraseConfig(attention_blocks=(1, -2)).watched_blocks(2) == (1, 0)
    for blocks in ((2,), (0, -3), (10**9,)):
        with pytest.raises(
            ValueError, match=r"Got attention_blocks .*, expected numbers from -2 t"
        ):
            EraseConfig(attention_blocks=blocks).watched_blocks(2)


def test_several_concepts_keep_the_strength_of_one() -> None:
    one = EraseConfig.from_recipe("fast", lora=LoraConfig(rank=4, alpha=2, targets="text_in"))
    several = one.for_concepts(3)
    assert (several.lora.rank, several.lora.alpha) == (12, 6)
    assert one.for_concepts(1) is one
