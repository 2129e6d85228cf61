"""Ten things that artists want, each done as they do it: in a template, by what the page offers.

Each leaves a screenshot in its temporary folder, to be looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_page import Page, open_page, write_settings
from comfy_server import Server, comfy_server
from PIL import Image
from playwright.sync_api import Browser, Locator, expect
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from setup import comfyui_path
from template_runs import make_small, run, run_template
from visits import Visit

pytestmark = pytest.mark.both_frontends

TRAIN, APPLY = "3", "4"  # ids of nodes in the templates
EXAMPLES = Path(__file__).parents[2] / "example_workflows"
# A pack beside ours: the miniature's weights as an fp8 file has them.
FLOAT8_PACK = """
import sys, torch

class Float8:
    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "store", "tests"

    def store(self, model):
        [models] = [m for name, m in sys.modules.items() if name.endswith(".tinyworld.models")]
        state = model.model.diffusion_model.state_dict()
        return (models.build_model(state, (torch.float8_e4m3fn, torch.bfloat16)),)

NODE_CLASS_MAPPINGS = {"Float8OfTests": Float8}
"""


@pytest.fixture(scope="module")
def visited(visit: Visit) -> Iterator[Page]:
    with visit() as opened:
        yield opened


@pytest.fixture
def page(visited: Page, tmp_path: Path) -> Iterator[Page]:
    """A page whose screenshot is kept when the task is done."""
    yield visited
    visited.tab.screenshot(path=tmp_path / "page.png")


def newest_lora(server: Server) -> Path:
    files = (server.base / "models" / "loras" / "EraseAnything").glob("*.safetensors")
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def newest_plan(server: Server) -> dict[str, Any]:
    """What the LoRA that was saved last was trained on."""
    with safe_open(newest_lora(server), "np") as file:
        return json.loads(file.metadata()["plan"])


def texts(page: Page) -> Locator:
    """What stands on nodes: cards, reports."""
    return page.tab.locator(".eraseanything-text .text:visible")


def pictures_of(server: Server) -> dict[str, bytes]:
    """Of the last run, by the id of the node that saved it, the pixels of its first picture."""
    *_, last = server.get("/history").values()
    return {
        node: Image.open(server.files(output)[0]).tobytes()
        for node, output in last["outputs"].items()
        if "images" in output
    }


def changes(page: Page) -> tuple[float, float]:
    """How far Erasure Report's pixels differ on average, in percent: to erase, to keep."""
    found = re.findall(r"pixels differ by ([\d.]+)% on", texts(page).last.inner_text())
    return float(found[0]), float(found[1])


def test_a_logo_off_a_t_shirt(page: Page, server: Server) -> None:
    """The mark goes from the shirt: it is asked for on it, and the shirt itself is kept."""
    run_template(page, "erase_logo")
    plan = newest_plan(server)
    asked = [pair["concept_prompt"] for pair in plan["pairs"]]
    kept = [*plan["keep"], *plan["held"]]
    assert any("T-shirt" in prompt and "tux" in prompt for prompt in asked)
    assert any("T-shirt" in prompt and "tux" not in prompt for prompt in kept)
    expect(texts(page)).to_contain_text(["tux", "a white T-shirt with the python logo"])
    erased, kept = changes(page)
    assert erased > 3 * kept


def test_one_person_and_no_other(page: Page, server: Server) -> None:
    run_template(page, "erase_person")
    plan = newest_plan(server)
    kept = " ".join([*plan["keep"], *plan["held"]])
    asked = ["Mira" in pair["concept_prompt"] for pair in plan["pairs"]]
    assert sum(asked) > 0.9 * len(asked)  # the others have it misspelt
    assert sum(name in kept for name in ("Omar", "Theo", "Ivan", "Zara", "Bella", "Ada")) >= 3
    assert "Mira" not in kept
    expect(texts(page)).to_contain_text(["Mira", "sad Omar in a red shirt"])
    erased, kept = changes(page)
    assert erased > 3 * kept


def test_a_style_and_not_its_subject(page: Page, server: Server) -> None:
    """What is drawn instead is the same thing in another style."""
    run_template(page, "erase_style")
    pairs = newest_plan(server)["pairs"]
    instead = [
        (p["concept_prompt"].replace("striped", "dotted"), p["anchor_prompt"])
        for p in pairs
        if "striped" in p["concept_prompt"]
    ]
    assert len(instead) > 0.9 * len(pairs)  # the others have it misspelt
    assert all(said == wanted for said, wanted in instead)


def test_two_things_at_once(page: Page, server: Server) -> None:
    """In one box they are refused, with the way that the template shows."""
    page.load_template("erase_object")
    make_small(page)
    page.keep_only("EraseAnythingTinyFlux", "EraseAnythingTrain")
    page.set_widgets(TRAIN, concept="star, ring")
    page.queue()
    assert page.end_of_run() == "execution_error"
    view = page.views().first
    expect(view).to_have_attribute("data-state", "failed")
    expect(view.locator(".message")).to_contain_text("join")
    page.tab.keyboard.press("Escape")  # the page's own dialog
    run_template(page, "several_concepts")
    assert newest_plan(server)["concept"] == "star + striped"


def test_weaker(page: Page, server: Server) -> None:
    run_template(page, "apply_strengths")
    said = " ".join(texts(page).all_inner_texts())
    assert "at strength 0.5" in said and "is off: at strength 0 nothing of 'star' is erased" in said
    drawn = pictures_of(server)
    off, half, whole = (
        np.frombuffer(drawn[node], np.uint8).astype(int) for node in ["10", "14", "18"]
    )
    assert 0 < abs(half - off).mean() < abs(whole - off).mean()


def test_has_anything_else_changed(page: Page) -> None:
    run_template(page, "check_erasure")
    report = texts(page).last
    expect(report).to_contain_text("a red diamond on a white background")
    erased, kept = changes(page)
    assert erased > 3 * kept


def test_undo(page: Page, server: Server) -> None:
    """With Apply bypassed, the model draws what it drew, bit for bit."""
    run_template(page, "erase_object")
    drawn = pictures_of(server)
    assert drawn["14"] != drawn["17"]
    page.run("id => { app.canvas.selectNode(app.rootGraph.getNodeById(id)); }", APPLY)
    page.command("Comfy.Canvas.ToggleSelectedNodes.Bypass")
    run(page)
    assert pictures_of(server)["17"] == drawn["14"]


def test_another_fine_tune(page: Page, server: Server) -> None:
    """A file goes on a model whose weights others have changed, and says what it was made for."""
    run_template(page, "check_erasure")
    drawn = pictures_of(server)["6"]
    lora = newest_lora(server)
    rng = np.random.default_rng(0)
    noise = {n: rng.normal(0, 0.1, t.shape).astype("f4") for n, t in load_file(lora).items()}
    save_file(noise, lora.with_name("others.safetensors"))
    page.run(
        """([apply, others]) => {
            const changed = LiteGraph.createNode("LoraLoaderModelOnly");
            app.rootGraph.add(changed);
            changed.widgets[0].value = others;
            const node = app.rootGraph.getNodeById(apply);
            const slot = node.findInputSlot("model");
            node.getInputNode(slot).connect(0, changed, 0);
            changed.connect(0, node, slot);
            node.disconnectInput(node.findInputSlot("lora"));
        }""",
        [APPLY, "EraseAnything/others.safetensors"],
    )
    page.set_widgets(APPLY, file=f"EraseAnything/{lora.name}")
    run(page)
    assert pictures_of(server)["6"] != drawn
    said = texts(page).filter(has_text="layers fit this model")
    expect(said).to_contain_text(f"EraseAnything/{lora.name} erases 'star' at strength 1; all of")
    expect(said).to_contain_text("base model: Flux")


def test_an_fp8_model(browser: Browser, server: Server, tmp_path: Path) -> None:
    """The node says how such weights are taken, and the file works on them."""
    base, page_of = tmp_path / "base", server.options
    other_pack = base / "custom_nodes" / "float8"
    other_pack.mkdir(parents=True)
    (other_pack / "__init__.py").write_text(FLOAT8_PACK)
    with comfy_server(comfyui_path(), base, options=page_of) as other:
        write_settings(base, {})
        with open_page(browser, other) as page:
            page.load(json.loads((EXAMPLES / "erase_object.json").read_text()))
            page.run(
                """() => {
                    const tiny = app.rootGraph.nodes.find(
                        node => node.type === "EraseAnythingTinyFlux");
                    const links = [...tiny.outputs[0].links].map(
                        id => app.rootGraph.links.get(id));
                    const packed = LiteGraph.createNode("Float8OfTests");
                    packed.pos = [tiny.pos[0], tiny.pos[1] - 120];
                    app.rootGraph.add(packed);
                    for (const { target_id, target_slot } of links)
                        packed.connect(0, app.rootGraph.getNodeById(target_id), target_slot);
                    tiny.connect(0, packed, 0);
                }"""
            )
            make_small(page)
            page.queue()
            said = page.tab.get_by_text("The weights stay packed, as fp8 and GGUF files have them")
            said.first.wait_for()  # while it trains
            page.tab.screenshot(path=tmp_path / "page.png")
            assert page.end_of_run() == "execution_success"
            drawn = pictures_of(other)
    assert drawn["14"] != drawn["17"]


def test_share(browser: Browser, server: Server, tmp_path: Path) -> None:
    """A friend who has not the pack is told its name."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    base, page_of = tmp_path / "base", server.options
    with comfy_server(comfyui_path(), base, options=page_of, pack=without) as other:
        write_settings(base, {})
        with open_page(browser, other) as page:
            page.load(json.loads((EXAMPLES / "erase_style.json").read_text()))
            if server.options:  # newer pages tell the pack
                page.tab.get_by_text("View details").click()
                page.tab.get_by_text("eraseanything", exact=True).wait_for()
            else:  # older ones tell its nodes
                page.tab.get_by_text("EraseAnythingTrain").first.wait_for()
            page.tab.screenshot(path=tmp_path / "page.png")
