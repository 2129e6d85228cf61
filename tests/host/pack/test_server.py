"""The pack in a ComfyUI of its own: what the server lists, serves and runs."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from comfy_server import PACK, PACK_NAME, ComfyError
from setup import CHECKERS_BIN
from workflow_api import inputs_of, is_widget, options, to_api, widget_names

NODES = {
    "EraseAnythingApply",
    "EraseAnythingMerge",
    "EraseAnythingAttention",
    "EraseAnythingPlan",
    "EraseAnythingPromptList",
    "EraseAnythingReport",
    "EraseAnythingTinyFlux",
    "EraseAnythingTrain",
    "EraseAnythingWatch",
    "EraseAnythingWatched",
}
TEMPLATES = sorted((PACK / "example_workflows").glob("*.json"))
# Loaders of files that are not here, and the output of the miniature that does as well.
LOADERS = {"UNETLoader": 0, "DualCLIPLoader": 1, "VAELoader": 2}
SMALL = {"resolution": 64, "width": 64, "height": 64}
TRANSLATED = Path(__file__).parent / "translated.json"  # digests of the English words
BLUEPRINT = PACK / "subgraphs" / "Erase and Compare.json"
# Inputs that a template may set; all others of our nodes hold what the node itself begins with.
CHOSEN = {"concept", "kind", "replace_with", "resolution", "prompt", "words", "view", "strength"}
CHOSEN |= {"erase_prompts", "keep_prompts", "synonyms", "keep", "recipe", "pictures", "family"}


@pytest.fixture(scope="module")
def server(comfyui):
    return comfyui


@pytest.fixture(scope="module")
def object_info(server):
    return server.object_info()


def test_the_server_lists_our_nodes_and_no_others(object_info):
    ours = {name for name, node in object_info.items() if node["category"] == "EraseAnything"}
    assert ours == NODES


def test_every_input_is_explained_and_every_number_has_a_range(object_info):
    lacking = [
        f"{name}.{input_name}: {key}"
        for name in NODES
        for input_name, spec in inputs_of(object_info[name]).items()
        for key in ("tooltip", *(("min", "max", "default") * (spec[0] in ("INT", "FLOAT"))))
        if options(spec).get(key) in (None, "")
    ]
    assert lacking == []


def test_every_node_has_a_help_page(server):
    for name in NODES:
        with urlopen(f"{server.url}/extensions/{PACK_NAME}/docs/{name}.md") as page:
            assert page.read().startswith(b"# ")


@pytest.mark.parametrize("language", [path.name for path in (PACK / "locales").iterdir()])
def test_translations_name_what_is_there(server, object_info, language):
    for name, words in server.get("/i18n")[language]["nodeDefs"].items():
        assert words["inputs"].keys() == inputs_of(object_info[name]).keys()


def test_translations_were_read_again_when_the_english_changed(object_info):
    """Put a node's new digest there only when you have changed its words in each language."""
    english = {name: english_of(object_info[name]) for name in NODES}
    digests = {name: sha256(text.encode()).hexdigest()[:8] for name, text in english.items()}
    assert json.loads(TRANSLATED.read_text()) == digests


def english_of(node):
    """All that a person reads on a node, as the server says it."""
    tooltips = {name: options(spec).get("tooltip") for name, spec in inputs_of(node).items()}
    return json.dumps([node["display_name"], node["description"], tooltips], sort_keys=True)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_is_offered_and_fits_the_nodes(server, object_info, path):
    assert path.stem in server.get("/workflow_templates")[PACK_NAME]
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert [fault for node in workflow["nodes"] for fault in misfits(node, object_info)] == []
    prompt = to_api(workflow, object_info)
    changed = {
        name
        for node in prompt.values()
        for name, spec in inputs_of(object_info[node["class_type"]]).items()
        if node["class_type"] in NODES
        and is_widget(spec)
        and node["inputs"][name] != options(spec)["default"]
    }
    assert changed <= CHOSEN


def misfits(node: dict[str, Any], object_info: dict[str, Any]) -> list[str]:
    """Sockets of a saved node that the server's node lacks, or has of another type."""
    if node["type"] == "MarkdownNote":
        return []
    info = object_info[node["type"]]
    specs = {name: type_name(spec) for name, spec in inputs_of(info).items()}
    wrong = [
        f"{node['type']}.{socket['name']}"
        for socket in node["inputs"]
        if specs.get(socket["name"]) != socket["type"]
    ]
    offered = list(zip(info["output_name"], info["output"], strict=True))
    for slot, out in enumerate(node["outputs"]):  # newer hosts' own nodes have more of them
        if out.get("links") and offered[slot : slot + 1] != [(out["name"], out["type"])]:
            wrong.append(f"{node['type']} -> {out['name']}")
    return wrong


def type_name(spec: list[Any]) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def test_a_template_of_another_schema_is_found_out(object_info):
    workflow = json.loads(TEMPLATES[0].read_text(encoding="utf-8"))
    train = next(node for node in workflow["nodes"] if node["type"] == "EraseAnythingTrain")
    train["inputs"][0]["name"], train["outputs"][0]["type"] = "gone", "MODEL"
    assert misfits(train, object_info) == [
        "EraseAnythingTrain.gone",
        "EraseAnythingTrain -> LORA_MODEL",
    ]


def test_the_blueprint_is_offered_and_fits_the_nodes(server, object_info):
    subgraphs = server.get("/global_subgraphs").items()
    ours = f"custom_nodes.{PACK_NAME}"
    ((identity, entry),) = (each for each in subgraphs if each[1]["info"]["node_pack"] == ours)
    assert entry["name"] == BLUEPRINT.stem
    served = server.get(f"/global_subgraphs/{identity}")["data"]
    assert served == BLUEPRINT.read_text(encoding="utf-8")
    blueprint = json.loads(served)
    (subgraph,), (outside,) = blueprint["definitions"]["subgraphs"], blueprint["nodes"]
    for node in subgraph["nodes"]:
        info = object_info[node["type"]]
        assert misfits(node, object_info) == []
        assert {socket["name"] for socket in node["inputs"]} == inputs_of(info).keys()
        assert len(node["widgets_values"]) == len(widget_names(info))
    assert outside["type"] == subgraph["id"]
    for side in ("inputs", "outputs"):
        inside = [(slot["name"], slot["type"]) for slot in subgraph[side]]
        assert [(slot["name"], slot["type"]) for slot in outside[side]] == inside
    widgets = [slot for slot in outside["inputs"] if "widget" in slot]
    assert len(outside["widgets_values"]) == len(widgets)


@pytest.mark.parametrize("fault", [{}, {"kind": "nope"}], ids=["as it is", "with a fault"])
def test_comfy_lint_judges_the_templates(object_info, tmp_path, fault):
    schema = tmp_path / "object_info"
    schema.write_text(json.dumps(object_info), encoding="utf-8")
    files = [tmp_path / path.name for path in TEMPLATES]
    for path, file in zip(TEMPLATES, files, strict=True):
        prompt = prompt_of(path, object_info)
        for node in prompt.values():
            if node["class_type"] == "EraseAnythingTrain":
                node["inputs"] |= fault
        file.write_text(json.dumps(prompt), encoding="utf-8")
    command = [CHECKERS_BIN / "comfy-lint", "--strict", "--schema-cache", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == (fault == {}), done.stdout + done.stderr


def prompt_of(path: Path, object_info: dict[str, Any]) -> dict[str, Any]:
    """A template as the server takes it; one that wants files of one's own, on the miniature."""
    prompt = to_api(json.loads(path.read_text(encoding="utf-8")), object_info)
    loaders = {name: node for name, node in prompt.items() if node["class_type"] in LOADERS}
    if not loaders:
        return prompt
    others = {name: node for name, node in prompt.items() if name not in loaders}
    for node in others.values():
        inputs = node["inputs"]
        inputs |= {name: value for name, value in SMALL.items() if name in inputs}
        for name, source in inputs.items():
            if isinstance(source, list) and source[0] in loaders:
                inputs[name] = ["tiny", LOADERS[loaders[source[0]]["class_type"]]]
    family = {"class_type": "EraseAnythingTinyFlux", "inputs": {"family": "Flux"}}
    return {"tiny": family, **others}


def test_a_recipe_that_has_gone_is_refused_with_what_to_choose(server, object_info):
    workflow = json.loads((PACK / "example_workflows" / "erase_object.json").read_text())
    prompt = to_api(workflow, object_info)
    train = next(x for x in prompt.values() if x["class_type"] == "EraseAnythingTrain")
    train["inputs"]["recipe"] = "gem"
    with pytest.raises(
        ComfyError,
        match=r"Got recipe 'gem', expected one of instant, fast, hardened, paper\. Choose",
    ):
        server.run(prompt)


@pytest.mark.thorough  # as the page's tests run them
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_run(server, object_info, path):
    prompt = prompt_of(path, object_info)
    for node in prompt.values():
        if node["class_type"] == "EraseAnythingTrain":
            node["inputs"]["steps"] = 2
    shown = server.run(prompt)
    for node_id, node in prompt.items():
        if node["class_type"] == "SaveImage":
            assert all(file.is_file() for file in server.files(shown[node_id]))
