"""What the host reads off the nodes: ids, inputs, ranges, explanations."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import eraseanything_pack
import pytest
from comfy_api.latest import io
from eraseanything_pack.erase_engine import __version__
from eraseanything_pack.nodes.host.schema import LABELS, node_schema
from pack_nodes import NODES, inputs_of
from workflow_api import is_widget

PACK, ROOT = eraseanything_pack.__name__, Path(eraseanything_pack.__path__[0])

# Workflows on other people's disks name these: ids, inputs and their order are for ever.
INPUTS = {
    "EraseAnythingTrain": (
        *("model", "clip", "concept", "kind", "replace_with", "synonyms", "keep", "prompts"),
        *("resolution", "steps", "seed", "file_name"),
        *("recipe", "negative_guidance", "rank", "targets", "batch"),
        *("preview_every", "resume", "vae", "plan", "keep_images"),
    ),
    "EraseAnythingPlan": (
        *("clip", "concept", "kind", "replace_with", "synonyms", "keep", "prompts", "seed"),
        *("edited", "join"),
    ),
    "EraseAnythingApply": (
        *("model", "file", "strength", "lora", "start", "end"),
        *(f"{kind}_{slot}" for slot in range(2, 5) for kind in ("file", "strength")),
    ),
    "EraseAnythingMerge": (
        *("method", "file_name"),
        *(f"{kind}_{slot}" for slot in range(1, 9) for kind in ("file", "strength")),
        *("model", "clip"),
    ),
    "EraseAnythingAttention": (
        *("model", "clip", "prompt", "words", "steps", "seed", "resolution", "erased", "vae"),
        *("view", "contrast", "blocks"),
    ),
    "EraseAnythingWatch": ("model", "clip", "prompt", "words", "view", "contrast", "blocks"),
    "EraseAnythingWatched": ("watch", "latent", "picture", "erased", "vae"),
    "EraseAnythingReport": (
        *("model", "erased", "clip", "vae", "erase_prompts", "keep_prompts"),
        *("steps", "seed", "resolution", "pictures", "clip_vision"),
    ),
    "EraseAnythingPromptList": (
        *("model", "clip", "vae", "prompts", "folder_name", "pictures"),
        *("steps", "guidance", "resolution"),
    ),
    "EraseAnythingTinyFlux": ("family",),
}
OUTPUTS = {
    "EraseAnythingTrain": ["LORA_MODEL", "LOSS_MAP", "MODEL", "STRING"],
    "EraseAnythingPlan": ["ERASE_PLAN", "STRING", "STRING"],
    "EraseAnythingApply": ["MODEL"],
    "EraseAnythingMerge": ["LORA_MODEL", "STRING"],
    "EraseAnythingAttention": ["IMAGE", "STRING"],
    "EraseAnythingWatch": ["MODEL", "CONDITIONING", "ERASE_WATCH"],
    "EraseAnythingWatched": ["IMAGE", "STRING"],
    "EraseAnythingReport": ["IMAGE", "STRING"],
    "EraseAnythingPromptList": ["STRING"],
    "EraseAnythingTinyFlux": ["MODEL", "CLIP", "VAE"],
}
ADVANCED = {
    *("prompts", "negative_guidance", "rank", "targets", "batch", "preview_every"),
    *("resume", "contrast", "blocks", "start", "end"),
    *(f"{kind}_{slot}" for slot in range(2, 9) for kind in ("file", "strength")),
}


def test_the_pack_lists_its_nodes_when_asked() -> None:
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)

    async def nodes() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    found = asyncio.run(nodes())
    assert found == list(NODES.values())
    assert list(NODES) == list(INPUTS)
    assert not hasattr(pack, "NODE_CLASS_MAPPINGS")  # with it the host would ignore the rest


@pytest.mark.parametrize("node_id", NODES)
def test_ids_are_for_ever(node_id: str) -> None:
    node = NODES[node_id]
    assert tuple(inputs_of(node)) == INPUTS[node_id]
    assert list(node.RETURN_TYPES) == OUTPUTS[node_id]
    assert node.CATEGORY == "EraseAnything" and node.DESCRIPTION


@pytest.mark.parametrize("node_id", NODES)
def test_everything_is_explained(node_id: str) -> None:
    node = NODES[node_id]
    for name, (_, options) in inputs_of(node).items():
        assert options.get("tooltip", "").endswith("."), name
    if node_id != "EraseAnythingTinyFlux":
        assert all(tip.endswith(".") for tip in node.OUTPUT_TOOLTIPS)


@pytest.mark.parametrize("node_id", NODES)
def test_defaults_are_possible(node_id: str) -> None:
    for name, (kind, options) in inputs_of(NODES[node_id]).items():
        if kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name
        if kind == "COMBO":
            assert options["default"] in options["options"], name
        if kind == "STRING":
            assert options["default"] == "" and not options["dynamicPrompts"], name


def test_what_experts_alone_need_is_folded_away() -> None:
    found = {
        name
        for node in NODES.values()
        for name, (_, options) in inputs_of(node).items()
        if options.get("advanced")
    }
    assert found == ADVANCED | {"steps", "seed"}  # of a training; what draws pictures shows them


def test_erase_concept_shows_eight_widgets() -> None:
    shown = [
        name
        for name, (kind, options) in inputs_of(NODES["EraseAnythingTrain"]).items()
        if is_widget([kind, options]) and not options.get("advanced")
    ]
    assert shown == [
        *("concept", "kind", "replace_with", "synonyms", "keep", "resolution", "file_name"),
        "recipe",
    ]


@pytest.mark.parametrize("node_id", NODES)
def test_labels_are_in_title_case(node_id: str) -> None:
    labels = {name: has["display_name"] for name, (_, has) in inputs_of(NODES[node_id]).items()}
    assert len(set(labels.values())) == len(labels)
    for name, label in labels.items():
        assert label == LABELS.get(name, name.replace("_", " ").title())
        assert label[0].isupper() and "_" not in label
    outputs = [(one.id, one.display_name) for one in NODES[node_id].GET_SCHEMA().outputs]
    called = [name or kind for kind, name in outputs]
    assert [label for label in called if not label[0].isupper()] == []


def test_a_host_is_given_only_what_its_schema_knows() -> None:
    """Words to search by are of newer hosts; `node_schema` takes anything and drops the rest."""
    known = {field.name for field in fields(io.Schema)}
    for node in NODES.values():
        schema = node.define_schema()
        assert getattr(schema, "search_aliases", []) != [] or "search_aliases" not in known
    assert node_schema(node_id="x", inputs=[], outputs=[], of_no_host=1).category == "EraseAnything"


def test_nodes_that_leave_something_run_on_their_own() -> None:
    alone = {node_id for node_id, node in NODES.items() if node.OUTPUT_NODE}
    assert alone == {
        *("EraseAnythingTrain", "EraseAnythingPlan", "EraseAnythingAttention"),
        *("EraseAnythingReport", "EraseAnythingPromptList"),
        "EraseAnythingMerge",
        "EraseAnythingWatched",
    }


def test_only_files_and_somebody_who_looks_make_a_node_run_again() -> None:
    own = {node_id for node_id, node in NODES.items() if "fingerprint_inputs" in vars(node)}
    assert own == {
        *("EraseAnythingApply", "EraseAnythingMerge", "EraseAnythingWatch"),
        *("EraseAnythingTrain", "EraseAnythingPromptList"),  # whose last files may be gone
    }


def test_importing_the_pack_imports_nothing_of_the_host() -> None:
    text = (ROOT / "__init__.py").read_text(encoding="utf-8")
    top = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    assert top == []


def test_files_name_the_packs_version() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
