"""The pack in a ComfyUI of its own: what the server lists, serves and runs."""

import json
import subprocess
from typing import Any
from urllib.request import urlopen

import pytest
from blueprint import NAME, blueprint
from comfy_server import PACK, PACK_NAME, comfy_server
from make_workflows import BLUEPRINT, WORKFLOWS, text_of, workflow_text
from setup import CHECKERS_BIN, comfyui_path
from workflow_api import inputs_of, options, to_api

NODES = {
    "EraseAnythingApply",
    "EraseAnythingMerge",
    "EraseAnythingAttention",
    "EraseAnythingPlan",
    "EraseAnythingReport",
    "EraseAnythingTinyFlux",
    "EraseAnythingTrain",
    "EraseAnythingWatch",
    "EraseAnythingWatched",
}
TEMPLATES = sorted((PACK / "example_workflows").glob("*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with comfy_server(comfyui_path(), tmp_path_factory.mktemp("comfyui")) as running:
        yield running


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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_templates_are_what_their_script_writes(server, object_info, name):
    assert name in server.get("/workflow_templates")[PACK_NAME]
    written = (PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")
    assert used(json.loads(written)) == used(json.loads(workflow_text(name, object_info)))


def used(graph: Any) -> Any:
    """A workflow less the outputs that nobody takes: newer hosts' own nodes have more of them."""
    if isinstance(graph, list):
        return [used(part) for part in graph]
    if not isinstance(graph, dict):
        return graph
    parts = {name: used(part) for name, part in graph.items()}
    if "widgets_values" in parts:  # a node
        parts["outputs"] = [out for out in parts["outputs"] if out.get("links")]
    return parts


def test_the_blueprint_is_what_its_script_writes(server, object_info):
    subgraphs = server.get("/global_subgraphs").items()
    ours = f"custom_nodes.{PACK_NAME}"
    ((identity, entry),) = (each for each in subgraphs if each[1]["info"]["node_pack"] == ours)
    assert entry["name"] == NAME
    served = server.get(f"/global_subgraphs/{identity}")["data"]
    assert served == BLUEPRINT.read_text(encoding="utf-8")
    assert used(json.loads(served)) == used(json.loads(text_of(blueprint(object_info))))


@pytest.mark.parametrize("fault", [{}, {"kind": "nope"}], ids=["as it is", "with a fault"])
def test_comfy_lint_judges_the_templates(object_info, tmp_path, fault):
    schema = tmp_path / "object_info"
    schema.write_text(json.dumps(object_info), encoding="utf-8")
    files = [tmp_path / path.name for path in TEMPLATES]
    for path, file in zip(TEMPLATES, files, strict=True):
        prompt = to_api(json.loads(path.read_text(encoding="utf-8")), object_info)
        for node in prompt.values():
            if node["class_type"] == "EraseAnythingTrain":
                node["inputs"] |= fault
        file.write_text(json.dumps(prompt), encoding="utf-8")
    command = [CHECKERS_BIN / "comfy-lint", "--strict", "--schema-cache", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == (fault == {}), done.stdout + done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_run(server, object_info, path):
    prompt = to_api(json.loads(path.read_text(encoding="utf-8")), object_info)
    for node in prompt.values():
        if node["class_type"] == "EraseAnythingTrain":
            node["inputs"]["steps"] = 2
    shown = server.run(prompt)
    for node_id, node in prompt.items():
        if node["class_type"] == "SaveImage":
            assert all(file.is_file() for file in server.files(shown[node_id]))
