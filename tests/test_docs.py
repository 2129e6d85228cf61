"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("web/docs/*.md")])
# Made by the set-up: no part of the repository.
MADE = {".venv", ".comfyui", ".checkers"}
PATH = re.compile(r"`((?:[\w.-]+/)*(?:[\w-]+\.(?:py|json|js|md)|[\w.-]+/|\.\w+))`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)|<img src=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = ["".join(found) for found in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_the_developers_page_names_what_is_there() -> None:
    named = set(PATH.findall((ROOT / "docs" / "developers.md").read_text(encoding="utf-8")))
    assert len(named) > 40
    assert [each for each in sorted(named - MADE) if not (ROOT / each).exists()] == []
