"""What nodes say stands on them, in ComfyUI's own page, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comfy_page import CLASSIC, NODES_2, Page
from comfy_server import Server
from playwright.sync_api import expect
from visits import Visit

from erase_engine.lora.file import save_lora
from tinyworld.models import FLUX_CONFIG

HTML = "<img src=x onerror=window.hacked=1>"
TINY, PLAN = "1", "2"  # ids
pytestmark = pytest.mark.both_frontends

expect.set_options(timeout=90_000)


def write_lora(server: Server, name: str, record: dict[str, str]) -> None:
    """A LoRA for one layer of the tiny Flux that changes nothing."""
    width = FLUX_CONFIG["hidden_size"]
    layer = "transformer_blocks.0.attn.add_q_proj"
    shapes = {"lora_A": (1, width), "lora_B": (width, 1)}
    state = {f"{layer}.{part}.weight": torch.zeros(shape) for part, shape in shapes.items()}
    save_lora(server.base / "models" / "loras" / name, state, record, overwrite=True)


@pytest.fixture(scope="module", params=[CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def page(request: Any, visit: Visit) -> Iterator[Page]:
    """A tiny Flux and a Concept Plan."""
    with visit(request.param) as opened:
        opened.run(
            """() => {
                const add = kind => {
                    const node = LiteGraph.createNode(kind);
                    app.rootGraph.add(node);
                    return node;
                };
                app.rootGraph.clear();
                add("EraseAnythingTinyFlux").connect(1, add("EraseAnythingPlan"), 0);
            }"""
        )
        opened.look_at(PLAN)
        yield opened


def test_a_plan_is_read_changed_and_read_again(page: Page) -> None:
    view = page.tab.locator(".eraseanything-text:visible").first
    page.set_widgets(PLAN, concept="star", prompts=f"a star {HTML}")
    page.queue()
    text = view.locator(".text")
    expect(text).to_contain_text("Erase: star (object)")
    assert HTML in text.inner_text()
    assert view.locator("img").count() == 0 and page.run("() => window.hacked") is None
    view.get_by_role("button", name="Edit this plan").press("Enter")
    value = f"() => app.rootGraph.getNodeById({PLAN}).widgets.find(w => w.name === 'edited').value"
    plan = json.loads(page.run(value))
    plan["pairs"] = plan["pairs"][1:]
    page.set_widgets(PLAN, edited=json.dumps(plan))
    page.queue()
    expect(text).to_contain_text(f"{len(plan['pairs'])} prompt pairs")
    assert HTML not in text.inner_text()


def test_a_workflow_from_before_seeds_had_a_control_keeps_its_values(page: Page) -> None:
    """And boxes have their names above what stands in them, but in 1.32.9's Nodes 2.0."""
    values = ["a red ring", "a blue star", 9, 5, 64, 2]
    shown = page.run(
        """([type, widgets_values]) => {
            const node = LiteGraph.createNode(type);
            app.rootGraph.add(node);
            node.pos = [0, -900];
            node.configure({ id: node.id, type, pos: node.pos, size: node.size, widgets_values });
            const kept = node.widgets.filter(each => each.serialize !== false);
            return kept.map(each => [each.label, each.value]);
        }""",
        ["EraseAnythingReport", values],
    )
    control = shown.pop(4)
    assert control[1] == "fixed"
    labels = ["Erase Prompts", "Keep Prompts", "Steps", "Seed", "Resolution", "Pictures"]
    assert shown == [list(pair) for pair in zip(labels, values, strict=True)]
    if page.run("() => !LiteGraph.vueNodesMode"):
        page.look_at(page.id_of("EraseAnythingReport"))
        for label in labels[:2]:
            expect(page.tab.get_by_text(label, exact=True)).to_be_visible()
            expect(page.tab.get_by_label(label)).to_have_value(values[labels.index(label)])
    page.run(
        "kind => app.rootGraph.remove(app.rootGraph.nodes.find(n => n.type === kind))",
        "EraseAnythingReport",
    )
    page.look_at(PLAN)


def test_the_text_stays_inside_its_node(page: Page) -> None:
    page.redraw()
    page.tab.wait_for_timeout(800)
    node = page.box_of(PLAN)
    box = page.tab.locator(".eraseanything-text:visible").first.bounding_box()
    assert box and box["y"] + box["height"] <= node["y"] + node["height"]


def test_a_files_record_is_shown_as_text(page: Page, server: Server) -> None:
    hostile = f"star {HTML}<script>window.hacked=1</script>"
    write_lora(server, "hostile.safetensors", dict.fromkeys(("concept", "figures"), hostile))
    apply = page.run(
        """tiny => {
            const add = kind => {
                const node = LiteGraph.createNode(kind);
                app.rootGraph.add(node);
                return node;
            };
            const apply = add("EraseAnythingApply");
            app.rootGraph.getNodeById(tiny).connect(0, apply, 0);
            apply.connect(0, add("PreviewAny"), 0);
            return String(apply.id);
        }""",
        TINY,
    )
    page.set_widgets(apply, file="hostile.safetensors")
    page.look_at(apply)
    page.queue()
    view = page.tab.locator(".eraseanything-text:visible").filter(has_text="fit this model")
    expect(view).to_contain_text(f"erases '{hostile}'")
    expect(view).to_contain_text(f"training: {hostile}")
    assert view.locator("img, script").count() == 0 and page.run("() => window.hacked") is None


def test_a_reloaded_page_finds_its_texts_again(page: Page) -> None:
    page.reload()
    page.look_at(page.id_of("EraseAnythingApply"))
    card = page.tab.locator(".eraseanything-text:visible").filter(has_text="fit this model")
    expect(card).to_contain_text("erases 'star <img")
    page.look_at(PLAN)
    plan = page.tab.locator(".eraseanything-text:visible").filter(has_text="prompt pairs")
    expect(plan.get_by_role("button", name="Edit this plan")).to_be_visible()


def test_the_history_is_asked_for_once_for_texts_and_maps(page: Page) -> None:
    asked: list[str] = []
    page.tab.on("request", lambda request: asked.append(request.url))
    page.load_template("look_inside")
    page.tab.wait_for_timeout(1000)
    assert len([url for url in asked if url.endswith("/history?max_items=20")]) == 1
