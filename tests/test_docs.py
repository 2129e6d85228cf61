"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("web/docs/*.md")])
# Made by the set-up: no part of the repository.
MADE = {".venv", ".comfyui", ".checkers"}
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES, MOST_WORDS, FEWEST_PICTURES, MOST_FIGURES = 150, 1400, 5, 2
MOVIE_BYTES = 1_500_000
PATH = re.compile(r"`((?:[\w.-]+/)*(?:[\w-]+\.(?:py|json|js|md)|[\w.-]+/|\.\w+))`")
KNOWN_FILE = re.compile(r'"name":\s*"([^"]+)",\s*"url":\s*"[^"]+",\s*"directory":\s*"([^"]+)"')
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)|<img src=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = ["".join(found) for found in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_the_readme_is_short_and_shows_pictures() -> None:
    assert len(README.splitlines()) <= MOST_LINES and len(README.split()) <= MOST_WORDS
    assert len(re.findall(r"!\[|<img ", README)) >= FEWEST_PICTURES
    assert (ROOT / "docs" / "training.webp").stat().st_size < MOVIE_BYTES


def test_the_readme_speaks_an_artists_words() -> None:
    assert "**Run**" in README
    assert re.findall(r"Acc_|\bASR\b|[Pp]ress Queue|Queue Prompt", README) == []
    rows = [line.split("|") for line in README.splitlines() if line.startswith("|")]
    figures = [sum(bool(re.match(r"\s*[\d.]+\b", cell)) for cell in row) for row in rows]
    assert max(figures) <= MOST_FIGURES


def test_the_readmes_memory_is_that_of_the_measurements() -> None:
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    [peaks] = re.findall(r"\| peak, batch 1 \|(.*)\|", text)
    low_and_high = [each.strip() for each in peaks.split("|")]
    for weights, at in (("fp8", 0), ("bf16", 3)):
        assert f"| {weights} | {low_and_high[at]} | {low_and_high[at + 2]} |" in README


def test_the_readme_installs_what_the_registry_publishes() -> None:
    published = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, shown = published["project"], published["tool"]["comfy"]["DisplayName"]
    assert f"`comfy node install {project['name']}`" in README and f"**{shown}**" in README
    assert f"git clone {project['urls']['Repository']}`" in README
    oldest = published["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    assert f"ComfyUI {oldest} or newer" in README


def test_files_of_models_are_those_of_comfyuis_own_templates() -> None:
    """In the folders that these templates name."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2:5] for line in text.splitlines() if ".safetensors" in line]
    said = set()
    for model, *others in rows:
        folder, files = re.fullmatch(r" `(\w+)`: (.*) ", model).groups()
        for place, names in zip((folder, "text_encoders", "vae"), (files, *others), strict=True):
            said |= {(place, name) for name in re.findall(r"[\w.-]+\.safetensors", names)}
    [packages] = ROOT.glob(".venv/lib/python*/site-packages")
    known = set()
    for file in packages.glob("comfyui_workflow_templates_media_*/templates/*.json"):
        found = KNOWN_FILE.findall(file.read_text(encoding="utf-8"))
        known |= {(folder, name) for name, folder in found}
    assert len(said) > 15 and said - known == set()


def test_the_readmes_templates_are_there() -> None:
    named = re.findall(r"template \*\*(\w+)\*\*", README)
    assert named
    assert [each for each in named if not (ROOT / f"example_workflows/{each}.json").exists()] == []


def test_the_developers_page_names_what_is_there() -> None:
    named = set(PATH.findall((ROOT / "docs" / "developers.md").read_text(encoding="utf-8")))
    assert len(named) > 40
    assert [each for each in sorted(named - MADE) if not (ROOT / each).exists()] == []
