"""What the page saves and what the server is sent mean the same."""

import copy

import pytest
from workflow_api import to_api
from workflow_canvas import Canvas

OBJECT_INFO = {
    "Loader": {
        "display_name": "Load it",
        "input": {"required": {"file": [["a", "b"], {}]}},
        "input_order": {"required": ["file"]},
        "output": ["MODEL", "CLIP"],
        "output_name": ["model", "clip"],
    },
    "Sampler": {
        "display_name": None,
        "input": {
            "required": {
                "steps": ["INT", {"default": 20}],
                "model": ["MODEL", {}],
                "seed": ["INT", {"default": 0, "control_after_generate": True}],
                "scheduler": ["COMBO", {"options": ["simple", "normal"]}],
            },
            "optional": {
                "second": ["MODEL", {}],
                "text": ["STRING", {"multiline": True, "default": "x"}],
                "wired": ["STRING", {"forceInput": True}],
            },
        },
        "input_order": {
            "required": ["steps", "model", "seed", "scheduler"],
            "optional": ["second", "text", "wired"],
        },
        "output": ["STRING"],
        "output_name": ["text"],
    },
}


@pytest.fixture
def workflow():
    canvas = Canvas(OBJECT_INFO)
    left, right = canvas.column(200), canvas.column(200)
    loader = left.add("Loader", file="b")
    left.note("help", tall=100)
    sampler = right.add("Sampler", title="Before", model=loader["model"], seed=7, text="star")
    right.add("Sampler", model=loader["model"], text=sampler["text"], wired=sampler["text"])
    return canvas.workflow("test")


def test_every_widget_and_link_arrives_under_its_own_name(workflow):
    prompt = to_api(workflow, OBJECT_INFO)
    assert prompt == {
        "1": {"class_type": "Loader", "inputs": {"file": "b"}, "_meta": {"title": "Load it"}},
        "3": {
            "class_type": "Sampler",
            "inputs": {
                "steps": 20,
                "model": ["1", 0],
                "seed": 7,
                "scheduler": "simple",
                "text": "star",
            },
            "_meta": {"title": "Before"},
        },
        "4": {
            "class_type": "Sampler",
            "inputs": {
                "steps": 20,
                "model": ["1", 0],
                "seed": 0,
                "scheduler": "simple",
                "text": ["3", 0],
                "wired": ["3", 0],
            },
            "_meta": {"title": "Sampler"},
        },
    }


def test_a_file_of_another_schema_is_refused_by_name(workflow):
    newer = copy.deepcopy(OBJECT_INFO)
    newer["Sampler"]["input"]["required"]["cfg"] = ["FLOAT", {"default": 1.0}]
    newer["Sampler"]["input_order"]["required"].append("cfg")
    with pytest.raises(ValueError, match=r"Sampler.*cfg"):
        to_api(workflow, newer)


def test_a_node_that_the_server_lacks_is_named(workflow):
    with pytest.raises(ValueError, match="Loader"):
        to_api(workflow, {"Sampler": OBJECT_INFO["Sampler"]})


def test_a_node_that_is_switched_off_is_named(workflow):
    workflow["nodes"][0]["mode"] = 4
    with pytest.raises(ValueError, match="Loader"):
        to_api(workflow, OBJECT_INFO)


def test_links_lead_to_the_sockets_they_name(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, into, kind in workflow["links"]:
        assert nodes[target]["inputs"][into]["link"] == number
        assert number in nodes[source]["outputs"][out]["links"]
        assert nodes[target]["inputs"][into]["type"] == kind


def test_nodes_do_not_lie_on_each_other(workflow):
    boxes = [(*node["pos"], *node["size"]) for node in workflow["nodes"]]
    for number, (x, y, width, height) in enumerate(boxes):
        for left, top, _, _ in boxes[number + 1 :]:
            assert left >= x + width or top >= y + height


def test_an_input_that_does_not_exist_is_named():
    with pytest.raises(KeyError, match="strenght"):
        Canvas(OBJECT_INFO).column(200).add("Loader", strenght=1)
