"""Concept Plan: what it plans is what is trained, changed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management
import graph
import pytest
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.nodes.training.plan import PlanConcept
from progress_hook import Cancel, watch_progress

PLAN = {name: graph.ERASE[name] for name in graph.PLAN_FIELDS} | {"edited": ""}


def planned(**inputs: Any) -> Any:
    return PlanConcept.execute(graph.clip(), **{**PLAN, **inputs})


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> Path:
    return loras


def records(loras: Path) -> list[dict[str, str]]:
    return [graph.record(path) for path in sorted(loras.rglob("*.safetensors"))]


def test_a_connected_plan_trains_what_planning_inside_does(loras: Path) -> None:
    plan = planned().args[0]
    graph.erase(graph.flux())
    graph.erase(graph.flux(), plan=plan, concept="", synonyms="")
    first, second = (path.read_bytes() for path in sorted(loras.rglob("*.safetensors")))
    assert first == second


def test_an_edited_plan_replaces_what_was_planned(loras: Path) -> None:
    fields = json.loads(planned().args[2])
    fields["pairs"] = fields["pairs"][:2]
    fields["pairs"][0] |= {"concept_prompt": "one huge star", "tokens": [0]}
    sent, text, whole = planned(edited=json.dumps(fields), concept="").args
    plan = sent.plan
    assert plan.pairs[0].concept_prompt == "one huge star"
    assert plan.pairs[0].tokens != (0,)  # found anew
    assert ConceptPlan.from_json(whole) == plan and text == plan.describe()
    graph.erase(graph.flux(), plan=sent)
    (record,) = records(loras)
    assert ConceptPlan.from_json(record["plan"]) == plan


def test_a_plan_that_no_page_could_show_is_refused() -> None:
    fields = json.loads(planned().args[2])
    says = "Got a plan of .* sentences, expected at most 10,000. Remove some"
    with pytest.raises(ValueError, match=says):
        planned(edited=json.dumps({**fields, "pairs": fields["pairs"][:1] * 20_000}))


def test_the_page_gets_words_and_the_whole() -> None:
    output = planned()
    plan, text, whole = output.args[0].plan, *output.args[1:]
    assert output.ui == {"text": (text,), "eraseanything_plan": [whole]}
    assert text.startswith("Erase: star (object)\nAlso erase: pentagram\n")
    assert ConceptPlan.from_json(whole) == plan and whole.count("\n") > len(plan.pairs)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"concept": ""}, "Got the concept '', expected at least one letter"),
        ({"edited": "star"}, "Got text that is not JSON.*expected a ConceptPlan"),
        ({"edited": "{}"}, "Got a ConceptPlan without concept, kind"),
    ],
)
def test_what_is_no_plan(inputs: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        planned(**inputs)


def test_an_edited_prompt_without_the_concept_is_named() -> None:
    fields = json.loads(planned().args[2])
    fields["pairs"][0]["concept_prompt"] = "a red thing"
    with pytest.raises(ValueError, match="is not in the prompt 'a red thing'"):
        planned(edited=json.dumps(fields))


def test_planning_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def hook(done: int, total: int) -> None:
        told.append(done)
        if done == 3:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook, preparing=True)
    with pytest.raises(Cancel):
        planned()
    assert told == [1, 2, 3]


def test_joined_plans_erase_all_of_their_concepts_with_one_file(loras: Path) -> None:
    star = planned().args[0]
    both, text, _ = planned(concept="heart", synonyms="", join=star).args
    assert text.startswith("Erase: star + heart (object)\nAlso erase: star, pentagram, heart\n")
    graph.erase(graph.flux(), plan=both)
    (path,) = loras.rglob("*.safetensors")
    assert path.name == "star_heart_00001.safetensors"
    words = {pair.word for pair in ConceptPlan.from_json(graph.record(path)["plan"]).pairs}
    assert {"star", "pentagram", "heart"} <= words


def test_an_edited_plan_can_not_be_joined() -> None:
    edited = planned(edited=planned().args[2]).args[0]
    with pytest.raises(ValueError, match=r"Got an edited plan to join.*Edit the last plan"):
        planned(concept="heart", synonyms="", join=edited)
