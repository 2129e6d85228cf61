"""What the server says on nodes, in Chinese: the page's table against the Python that says it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from comfy_server import PACK

TABLE = PACK / "web" / "js" / "sentences.js"
ENTRY = r'^  "([^"]+)":\s+"([^"]+)",$'
NAME = r"\{\w+\}"


def entries() -> dict[str, str]:
    """Chinese by English, of the whole table."""
    text = TABLE.read_text(encoding="utf-8")
    return dict(re.findall(ENTRY, text, re.M))


def said_by(tree: ast.Module) -> Iterator[str]:
    """The texts of a module; {} in place of each value of an f-string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            constants = (getattr(part, "value", "") for part in node.values)
            kinds = [isinstance(part, ast.Constant) for part in node.values]
            yield "".join(
                str(text) if kind else "{}" for text, kind in zip(constants, kinds, strict=True)
            )


def test_every_sentence_is_one_that_python_says() -> None:
    paths = [path for room in ("nodes", "erase_engine") for path in (PACK / room).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    said = "\n".join(text for tree in trees for text in said_by(tree))
    english = {re.sub(NAME, "{}", re.sub(r"^\^|\$$", "", text)) for text in entries()}
    assert len(english) > 60
    assert [text for text in english if text not in said] == []


def test_every_sentence_is_in_chinese_with_the_same_values() -> None:
    for text, translation in entries().items():
        assert re.search(r"[\u4e00-\u9fff]", translation), text
        assert sorted(re.findall(NAME, text)) == sorted(re.findall(NAME, translation))


def test_every_line_of_the_table_is_read() -> None:
    """An entry of another form would be left out of the tests above."""
    table = TABLE.read_text(encoding="utf-8").split("const CHINESE = {\n")[1].split("\n};\n")[0]
    rest = re.sub(r"^  //.*$", "", re.sub(ENTRY, "", table, flags=re.M), flags=re.M)
    assert rest.strip() == ""
