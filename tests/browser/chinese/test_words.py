"""What our views say, in Chinese: every text of theirs, and in the page itself."""

from __future__ import annotations

import re

import pytest
from comfy_page import CLASSIC
from comfy_server import PACK
from playwright.sync_api import expect
from train_view import prepare, wait_for
from visits import Visit, open_help

SCRIPTS = PACK / "web" / "js"
TABLES = r"const (?:HEADINGS|ROLES|LABELS|MODELS) = (.*?);\n"  # of texts that are chosen by name
TEXT = r'"([^"]+)"'
CHINESE = r"[\u4e00-\u9fff]"
ENGLISH = r"[A-Za-z]+(?: [A-Za-z]+){2,}"  # three words in a row
NAMES_AND_PROMPTS = r"'[^'\n]*'|\S+\.safetensors|(?<=%  ).*"
RARELY = {
    "Cancelled in step 3 of 9. Saved so far as a/St. P_00001.safetensors; press Run to go on.": (
        "已在第 3 步（共 9 步）取消。到目前为止的结果已保存为 a/St. P_00001.safetensors；"
        "再次运行即可继续。"
    ),
    "Expected to need about 9 GB: 8 GB for the weights and 1 GB for a step; and 5 MB of the "
    "computer's memory for sampled states and text. It takes at most 90 passes of the model, 30% "
    "of those of the recipe fast (at most 300).": (
        "预计约需 9 GB：权重 8 GB，每一步 1 GB；另需 5 MB 内存，用于采样的状态和文本。"
        "模型运行次数：最多 90，为配方 fast（最多 300）的约 30%。"
    ),
    "It takes at most 13,568 passes of the model. Simple words need only 432 or 1,136. "
    "A picture of 20 steps takes 40. This family draws with guidance (cfg). If your model was "
    "distilled to draw without, as Turbo models are, train the one that it was made from, and "
    "apply the LoRA to both.": (
        "模型运行次数：最多 13,568。简单的词只需 432 或 1,136。一幅 20 步的图像需 40 次。"
        "这一系列绘图时使用引导（cfg）。如果您的模型经蒸馏而无需引导（如 Turbo 模型），"
        "请训练它的原模型，再把 LoRA 用于两者。"
    ),
    "Erase: at most two (object)\n  'to erase' -> 'Note: a star'\n    'star' is token 3, 4": (
        "擦除：at most two (object)\n  'to erase' -> 'Note: a star'\n    'star' 是词元 3, 4"
    ),
    "to keep: pixels differ by 3.2%, similarity 0.987 on average\n  3.2%  to keep": (
        "要保留：像素平均相差 3.2%，相似度 0.987\n  3.2%  to keep"
    ),
    "9 steps, 1,234 forward passes of one picture; losses at the end: erase 1e-05, holds 0.5": (
        "9 步，单幅图像前向 1,234 次；最后的损失：擦除 1e-05, 抵挡 0.5"
    ),
    "training: solved, without a step": "训练：求解所得，没有训练步",
    "a step, strength 1 (a step)": "a step，强度 1（a step）",
    "Note: driver's seat: 'a box' appears instead: its picture does not show the concept.": (
        "说明：driver's seat: 替换为 'a box'：它的图像不含该概念。"
    ),
    "Got nothing here, expected a model. Connect one.": (
        "Got nothing here, expected a model. Connect one."
    ),
}

LITTLE = {"concept": "star", "resolution": 64, "recipe": "fast", "steps": 2, "preview_every": 0}


def test_the_chinese_table_has_every_text_and_no_other() -> None:
    table = (SCRIPTS / "words.js").read_text(encoding="utf-8")
    entries = re.findall(rf"^  (?:(\w+)|{TEXT}): {TEXT},$", table, re.M)
    chinese = {word or text: translation for word, text, translation in entries}
    others = "".join(
        path.read_text(encoding="utf-8") for path in SCRIPTS.glob("*.js") if path.stem != "words"
    )
    said = set(re.findall(rf"said\({TEXT}", others)) | set(re.findall(rf"IDLE = {TEXT}", others))
    for values in re.findall(TABLES, others, re.S):
        said |= set(re.findall(rf": {TEXT}", values))
    assert said == chinese.keys()
    for text, translation in chinese.items():
        assert re.search(CHINESE, translation), text
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", translation))


@pytest.mark.both_frontends
def test_a_training_is_shown_in_chinese(visit: Visit) -> None:
    with visit({**CLASSIC, "Comfy.Locale": "zh"}) as page:
        view = prepare(page, recipe="instant", concept="star", file_name="words/star")
        assert view.locator(".message").inner_text() == "训练时，损失曲线和预览会显示在这里。"
        page.run(WITH_OTHERS, LITTLE)
        page.queue()
        assert page.end_of_run() == "execution_success"
        wait_for(view, "done")
        assert view.locator(".state").inner_text() == "完成"
        captions = view.locator(".when").all_inner_texts()
        assert captions == ["之前", "求解后", "替换为", "之前", "求解后"]
        texts = page.run(ALL_TEXTS)
        assert len(texts) == 5
        for text in texts:
            assert re.search(CHINESE, text)
            assert re.findall(ENGLISH, re.sub(NAMES_AND_PROMPTS, "", text)) == []
        assert page.run(TOLD, list(RARELY)) == list(RARELY.values())


@pytest.mark.both_frontends
def test_a_help_page_is_shown_in_chinese(visit: Visit) -> None:
    with visit({"Comfy.Locale": "zh"}) as page:
        open_help(page, "EraseAnythingApply")
        shown = page.tab.locator(".node-help-content")
        expect(shown.get_by_role("heading", level=1)).to_have_text("应用擦除 LoRA")
        picture = shown.get_by_role("img").first
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("img => img.naturalWidth") > 200


# A second training, and one of each node that shows a text, between which pictures are compared.
WITH_OTHERS = """widgets => {
    const { rootGraph } = app;
    const find = type => rootGraph.nodes.find(node => node.type === type);
    const [tiny, first] = ["EraseAnythingTinyFlux", "EraseAnythingTrain"].map(find);
    const add = type => {
        const node = LiteGraph.createNode(type);
        rootGraph.add(node);
        node.pos = [900, -400 * rootGraph.nodes.length];
        for (const widget of node.widgets)
            if (widget.name in widgets) widget.value = widgets[widget.name];
        tiny.outputs.forEach((output, slot) => {
            const input = node.inputs.find(each => each.type === output.type && each.link == null);
            if (input) tiny.connect(slot, node, input.name);
        });
        return node;
    };
    const [apply, report] = ["Train", "Plan", "Apply", "Report"]
        .map(name => add(`EraseAnything${name}`)).slice(2);
    first.connect(0, apply, "lora");
    apply.connect(0, report, "erased");
    report.widgets[0].value = "a red star";
    report.widgets[1].value = "a blue ring";
}"""

ALL_TEXTS = """() => app.rootGraph.nodes
    .flatMap(node => node.widgets ?? [])
    .filter(widget => widget.name.startsWith("eraseanything_"))
    .map(widget => widget.element.querySelector(".text, .message").textContent)"""

TOLD = """async texts => {
    const scripts = await (await fetch("/extensions")).json();
    const { told } = await import(scripts.find(each => each.endsWith("/js/sentences.js")));
    return texts.map(told);
}"""
