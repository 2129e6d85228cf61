"""Notes and titles of our templates in Chinese: the page's table, and a template in the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from comfy_page import CLASSIC, Page
from comfy_server import PACK
from template_runs import TEMPLATES
from visits import Visit

TABLE = (PACK / "web" / "js" / "notes.js").read_text(encoding="utf-8")
ENTRY = r'^  "([^"]+)": \{\n    digest: "(\w{8})",\n    text: `((?:[^`\\]|\\`)+)`,\n  \},$'
NOTES = {first: (digest, text) for first, digest, text in re.findall(ENTRY, TABLE, re.M)}
TITLE = r'^  (?:(\w+)|"([^"]+)"):\s+"([^"]+)",$'
TITLES_PART = TABLE.split("CHINESE_TITLES = {")[1].split("\n};")[0]
TITLES = {bare or quoted: text for bare, quoted, text in re.findall(TITLE, TITLES_PART, re.M)}
CHINESE = r"[\u4e00-\u9fff]"
NOTE = "MarkdownNote"
TEMPLATE = "several_concepts"


def workflow(name: str) -> dict[str, Any]:
    return json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


WORKFLOWS = [workflow(name) for name in TEMPLATES]


def note_of(flow: dict[str, Any]) -> str:
    [note] = [node["widgets_values"][0] for node in flow["nodes"] if node["type"] == NOTE]
    return note


def digest_of(text: str) -> str:
    """FNV-1a of a text's letters, as the page has it."""
    digest = 0x811C9DC5
    for letter in text:
        digest = (digest ^ ord(letter)) * 0x01000193 % 2**32
    return f"{digest:08x}"


def test_every_templates_note_is_in_the_table_as_it_is_now() -> None:
    """An English note that is changed needs its Chinese one read again, then the new digest."""
    english = [note_of(flow) for flow in WORKFLOWS]
    now = {note.split("\n")[0]: digest_of(note) for note in english}
    assert now == {first: digest for first, (digest, _) in NOTES.items()}


def test_every_title_is_in_the_table_and_no_other() -> None:
    items = [item for flow in WORKFLOWS for item in (*flow["groups"], *flow["nodes"])]
    assert {item["title"] for item in items if item.get("title")} == TITLES.keys()


def test_the_table_is_in_chinese_with_all_that_is_shown_in_the_english_notes() -> None:
    """Files, lists and tables are the same; and a bold name ends where Markdown sees it end."""
    english = {note_of(flow).split("\n")[0]: note_of(flow) for flow in WORKFLOWS}
    for first, (_, text) in NOTES.items():
        plain = text.replace("\\`", "`")
        for pattern in ("`([^`]+)`", r"(?m)^(#|- |\d\. |\|)", r"\*\*()", r"\w+_\w+"):
            assert re.findall(pattern, plain) == re.findall(pattern, english[first])
        assert not re.search(r"）\*+\w", plain)
    for translation in (*TITLES.values(), *(text for _, text in NOTES.values())):
        assert re.search(CHINESE, translation)


def test_names_in_chinese_notes_are_those_on_the_nodes() -> None:
    """What is bold in Chinese is a node, a widget or the button that runs a workflow."""
    text = (PACK / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8")
    nodes = json.loads(text).values()
    names = {node["display_name"] for node in nodes} | {"运行"}
    names |= {each["name"] for node in nodes for each in node["inputs"].values()}
    names |= {re.sub("（.*）", "", name) for name in names}
    bold = {name for _, text in NOTES.values() for name in re.findall(r"\*\*(.+?)\*\*", text)}
    assert {name for name in bold if re.search(CHINESE, name)} - names == set()


@pytest.mark.both_frontends
def test_a_template_is_opened_in_chinese_and_a_rewritten_note_stays(visit: Visit) -> None:
    english = workflow(TEMPLATE)
    with visit({**CLASSIC, "Comfy.Locale": "zh"}) as page:
        page.load_template(TEMPLATE)
        page.tab.wait_for_function("() => app.rootGraph.groups.length")
        note, titles, rest = shown(page)
        assert note == NOTES[note_of(english).split("\n")[0]][1]
        assert titles == [TITLES[each["title"]] for each in english["groups"]]
        assert page.run("() => app.extensionManager.workflow.activeWorkflow.isModified") is False
        own = json.loads(json.dumps(english).replace("one concept is", "a thing is"))
        page.load(own)
        own_titles = [each["title"] for each in english["groups"]]
        assert shown(page) == (note_of(own), own_titles, rest)
    with visit({**CLASSIC, "Comfy.Locale": "fr"}) as page:
        page.load(english)
        titles = [each["title"] for each in english["groups"]]
        assert shown(page) == (note_of(english), titles, rest)


def shown(page: Page) -> tuple[str, list[str], list[Any]]:
    """The note, the groups' titles, and the values of all other nodes."""
    values = page.run(
        "() => app.rootGraph.serialize().nodes.map(node => [node.type, node.widgets_values])"
    )
    [note] = [given[0] for kind, given in values if kind == NOTE]
    titles = page.run("() => app.rootGraph.groups.map(group => group.title)")
    return note, titles, [each for each in values if each[0] != NOTE]
