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
TABLES = r"const (?:HEADINGS|ROLES|LABELS) = (.*?);\n"  # of texts that are chosen by name
TEXT = r'"([^"]+)"'
CHINESE = r"[\u4e00-\u9fff]"


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
        view = prepare(page, recipe="instant", file_name="words/star")
        assert view.locator(".message").inner_text() == "训练时，损失曲线和预览会显示在这里。"
        page.queue()
        wait_for(view, "done")
        assert view.locator(".state").inner_text() == "完成"
        captions = view.locator(".when").all_inner_texts()
        assert captions == ["之前", "求解后", "替换为", "之前", "求解后"]


@pytest.mark.both_frontends
def test_a_help_page_is_shown_in_chinese(visit: Visit) -> None:
    with visit({"Comfy.Locale": "zh"}) as page:
        open_help(page, "EraseAnythingApply")
        shown = page.tab.locator(".node-help-content")
        expect(shown.get_by_role("heading", level=1)).to_have_text("应用擦除 LoRA")
        picture = shown.get_by_role("img").first
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("img => img.naturalWidth") > 200
