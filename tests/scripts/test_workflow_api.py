"""What the page saves and what the server is sent mean the same."""

import copy

import pytest
from workflow_api import to_api

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
    """A loader, a note and two samplers, as the page saves them."""
    model = {"name": "model", "type": "MODEL", "link": 1}
    nodes = [
        {"id": 1, "type": "Loader", "inputs": [], "widgets_values": ["b"]},
        {"id": 2, "type": "MarkdownNote", "inputs": [], "widgets_values": ["help"]},
        {
            "id": 3,
            "type": "Sampler",
            "title": "Before",
            "inputs": [model, {"name": "wired", "type": "STRING", "link": None}],
            "widgets_values": [20, 7, "fixed", "simple", "star"],
        },
        {
            "id": 4,
            "type": "Sampler",
            "inputs": [
                model | {"link": 2},
                {"name": "text", "type": "STRING", "link": 3, "widget": {"name": "text"}},
                {"name": "wired", "type": "STRING", "link": 4},
            ],
            "widgets_values": [20, 0, "fixed", "simple", "x"],
        },
    ]
    links = [
        [1, 1, 0, 3, 0, "MODEL"],
        [2, 1, 0, 4, 0, "MODEL"],
        [3, 3, 0, 4, 1, "STRING"],
        [4, 3, 0, 4, 2, "STRING"],
    ]
    return {"nodes": nodes, "links": links}


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
