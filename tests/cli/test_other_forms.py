"""Files of other trainers: what they say of ours is read, and what ours has not is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from word_encoder import WordEncoder

from erase_engine.cli.options import read_options
from erase_engine.concepts.grammar import contains
from erase_engine.concepts.planner import plan_concept
from erase_engine.config import EraseConfig

LECO = """
guidance_scale = 2.0
resolution = 256

[[prompts]]
target = "van gogh"
positive = "van gogh"
unconditional = "a painting"
neutral = "a painting"
action = "erase"
resolution = [256, 320]
batch_size = 3
multiplier = 1.0
weight = 1.0
"""


@pytest.fixture
def job(tmp_path: Path):
    """Reads a job whose config is such a file: `job("target = 'dog'")`."""

    def read(text: str, *options: str, name: str = "prompts.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        config = str(tmp_path / name)
        words = ["--model", "flux", "--out", str(tmp_path / "a"), "--config", config, *options]
        (found,) = read_options(words)
        return found

    return read


def test_a_leco_entry_is_a_request(job):
    found = job(LECO)
    assert (found.request.concept, found.request.replacement) == ("van gogh", "a painting")
    config = EraseConfig.from_recipe("fast", negative_guidance=2.0, batch=3, height=256, width=320)
    assert found.config == config
    assert job(LECO, "--kind", "style").request.kind == "style"


@pytest.mark.parametrize("prompts", ["", "5", "{a: 1}", "[]"])
def test_prompts_of_leco_are_a_list(job, prompts: str) -> None:
    with pytest.raises(ValueError, match="in the LECO file, expected a list of one"):
        job(f"target: dog\nprompts: {prompts}", name="prompts.yaml")


def test_what_leco_leaves_out_is_ours(job):
    expected = job("concept = 'dog'")
    assert job("target = 'dog'") == job("[[prompts]]\ntarget = 'dog'\n") == expected
    assert expected.config == EraseConfig.from_recipe("fast")


def test_the_older_yaml_says_the_same(job):
    text = "- target: van gogh\n  neutral: a painting\n  unconditional: a painting\n"
    text += "  guidance_scale: 2.0\n  resolution: 256\n  batch_size: 3\n"
    toml = LECO.replace("[256, 320]", "256")
    assert job(text, name="prompts.yaml") == job(toml)


def test_toml_with_our_own_fields(job):
    found = job("concept = 'dog'\nsteps = 7\nprompts = ['a dog here']\n[lora]\nrank = 4\n")
    assert (found.config.steps, found.config.lora.rank) == (7, 4)
    assert found.request.prompts == ("a dog here",)


WRONG = [
    ("[[prompts]]\ntarget='a'\n[[prompts]]\ntarget='b'", r"Got 2 entries in the LECO file.*Merge"),
    ("prompts = [{target='a', action='enhance'}]", r"Got action 'enhance' in the LECO entry, exp"),
    ("target = 'a'\npositive = 'a b'", r"Got positive 'a b' in .*, expected the target; write con"),
    ("target = 'a'\nunconditional = 'bad'\nneutral = ''", r"Got unconditional 'bad' in .*the neut"),
    ("target = 'a'\nmultiplier = -1.0", r"Got multiplier -1\.0 in the LECO entry, expected 1\. "),
    ("target = 'a'\ndynamic_crops = true", r"Got dynamic_crops True in .*, expected False"),
    (
        "target = 'a'\nguidance_scale = -1",
        r"Got guidance_scale -1, expected a number from 0 to 100",
    ),
    ("target = 'a'\nresolution = [1, 2, 3]", r"Got width \[1, 2, 3\], expected a whole number"),
    ("target = 'a'\nsteps = 3", r"Got steps in the LECO file, expected fields out of"),
    ("prompts = [{target='a', stpes=3}]", r"Got stpes in the LECO entry, expected fields out of"),
    ("prompts = [{target='a'}, 3]", r"Got 2 entries"),
    ("[slider]\ntarget_class = 'a'\npositive = 'b'", r"Got a slider in the LECO file, expected"),
    ("prompts = [{target_class='a', positive='b'}]", r"Got a slider in the LECO file, expected"),
    ("prompts = [{neutral='a'}]", r"Got the concept '', expected at least one letter"),
    ("target = 3", r"Got concept 3, expected text"),
    ("target = ", r"prompts\.toml that can't be read \(Invalid value.*expected JSON, YAML or TOML"),
    ("concept = 'red'\nerase_from = 3", r"Got erase_from 3 and concept 'red', expected two texts"),
    ("concept = 'a'\nerase_from = 'b'\nkind = 'style'", r"Got erase_from beside another kind than"),
    ("concept = 'a'\nerase_from = 'b'\nsynonyms = ['c']", r"Got erase_from beside .* synonyms"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text[:30] for text, _ in WRONG])
def test_what_ours_has_not_is_refused(job, text, message):
    with pytest.raises(ValueError, match=message) as error:
        job(text)
    assert len(str(error.value)) < 590


def test_a_python_without_toml_says_so(job, monkeypatch):
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"this Python has no TOML: pip install tomli, or write Y"):
        job("concept = 'dog'")


@pytest.mark.parametrize(
    ("concept", "thing", "whole", "elsewhere"),
    [
        ("red", "rose", "red rose", "red"),
        ("Van Gogh", "sunflowers", "Van Gogh sunflowers", "Van Gogh"),
        ("with glasses", "man", "man with glasses", "man"),
    ],
)
def test_a_concept_is_erased_from_one_thing_only(job, concept, thing, whole, elsewhere):
    """What it is erased from appears instead; both are kept where they are not together."""
    request = job(f"concept = '{concept}'\nerase_from = '{thing}'\npairs = 8").request
    plan = plan_concept(request, WordEncoder())
    assert plan.concept == whole and plan.anchor == thing
    assert all(contains(pair.concept_prompt, [whole]) for pair in plan.pairs[:4])
    assert all(contains(pair.anchor_prompt, [thing]) for pair in plan.pairs[:4])
    assert not any(contains(pair.anchor_prompt, [whole]) for pair in plan.pairs)
    for word in (thing, elsewhere):
        assert any(contains(line, [word]) and not contains(line, [whole]) for line in plan.keep)


def test_erase_from_leaves_what_is_said_itself(job):
    text = "concept = 'red'\nerase_from = 'rose'\nreplacement = 'lily'\nkeep = ['a red fox']\n"
    request = job(text).request
    assert (request.replacement, request.keep) == ("lily", ("a red fox", "red", "rose"))
    assert job("concept = 'red'\nerase_from = 'Red'").request == job("concept = 'red'").request
