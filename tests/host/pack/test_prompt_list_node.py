"""Draw Prompt List: files in the field's own form, drawn once, and told from another model's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import execution
import folder_paths
import graph
import numpy
import pytest
import server
import torch
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.nodes import demo
from eraseanything_pack.nodes.attention.preview import GUIDANCE
from eraseanything_pack.nodes.report import prompt_list
from eraseanything_pack.nodes.report.prompt_list import DrawPromptList
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from pack_nodes import NODES
from PIL import Image

import nodes as host_nodes

CSV = "case_number,prompt,evaluation_seed\n4,a red star,7\n6,a blue star,8\n"
LIST = {"prompts": CSV, "folder_name": "stars", "pictures": 2, "steps": 2}
LIST |= {"guidance": GUIDANCE, "resolution": 64}
FILES = ["4_0.png", "4_1.png", "6_0.png", "6_1.png"]


@pytest.fixture(scope="module")
def model() -> Any:
    return graph.flux()


@pytest.fixture(scope="module")
def vae() -> Any:
    return build_vae(load_weights("vae"))


@pytest.fixture
def out(loras: Path) -> Path:
    """Where LIST's pictures go."""
    return Path(folder_paths.get_output_directory()) / "stars"


@pytest.fixture
def draw(model: Any, vae: Any, out: Path) -> Callable[..., Any]:
    @torch.inference_mode()
    def run(**changes: Any) -> Any:
        return DrawPromptList.execute(model, graph.clip(), vae, **{**LIST, **changes})

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return numpy.asarray(image)


def test_files_are_called_as_evaluators_expect_and_shown(
    draw: Callable[..., Any], out: Path
) -> None:
    output = draw()
    assert names(out) == FILES and output.args == (str(out),)
    assert output.ui["images"] == [
        {"filename": name, "subfolder": "stars", "type": "output"} for name in FILES
    ]
    assert output.ui["text"] == ("4 pictures drawn, 0 were there, in the output folder: stars",)
    assert draw().ui["text"] == ("0 pictures drawn, 4 were there, in the output folder: stars",)


@torch.inference_mode()
def test_pictures_are_those_of_the_report(
    draw: Callable[..., Any], model: Any, vae: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same prompt and seed, as they leave the VAE."""
    draw()
    pairs: list[Any] = []
    draw_report = "eraseanything_pack.nodes.report.report.draw_report"
    monkeypatch.setattr(draw_report, lambda found: pairs.extend(found) or torch.zeros(1, 8, 8, 3))
    widgets = {"erase_prompts": "a red star", "keep_prompts": "", "seed": 7, "pictures": 2}
    ErasureReport.execute(
        model, model, graph.clip(), vae, **widgets, **{n: LIST[n] for n in ("steps", "resolution")}
    )
    for name, pair in zip(FILES, pairs, strict=False):
        expected = (pair.before * 255).round().byte().numpy()
        assert numpy.array_equal(pixels(out / name), expected)
    assert not numpy.array_equal(pixels(out / FILES[0]), pixels(out / FILES[1]))


def test_a_cancelled_run_keeps_its_pictures_and_goes_on(
    draw: Callable[..., Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = comfy.model_management.InterruptProcessingException
    taken: list[int] = []

    def progress(total: int) -> Callable[[], None]:
        def on_step() -> None:
            taken.append(total)
            if len(taken) == 4:  # in the middle of the second picture
                raise cancelled

        return on_step

    monkeypatch.setattr(prompt_list, "sampling_progress", progress)
    with pytest.raises(cancelled):
        draw()
    assert names(out) == FILES[:1]
    first = (out / FILES[0]).stat().st_mtime_ns
    assert draw().ui["text"] == ("3 pictures drawn, 1 were there, in the output folder: stars",)
    assert taken == 4 * [8] + 6 * [6]  # two steps for each of 4, then of 3
    assert (out / FILES[0]).stat().st_mtime_ns == first
    whole = {name: pixels(out / name) for name in FILES}
    draw(folder_name="again")
    assert all(numpy.array_equal(pixels(out.parent / "again" / n), whole[n]) for n in FILES)


def test_prompts_are_read_a_few_at_a_time(
    draw: Callable[..., Any], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder_name="at once")
    monkeypatch.setattr(prompt_list, "ENCODED_AT_ONCE", 3)
    draw()
    for name in FILES:
        assert numpy.array_equal(pixels(out / name), pixels(out.parent / "at once" / name))


def test_other_settings_do_not_go_into_the_same_folder(draw: Callable[..., Any]) -> None:
    draw(pictures=1)
    for changes, says in (({"steps": 3}, "steps '2'"), ({"guidance": 1.0}, r"guidance '3\.0'")):
        with pytest.raises(ValueError, match=rf"4_0\.png, drawn with {says}, expected"):
            draw(**changes)


def test_a_list_may_lie_in_the_input_folder(
    draw: Callable[..., Any], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "prompts.csv").write_text("prompt\n星\n", encoding="utf-8")
    (tmp_path / "secret.csv").write_text("prompt\nsecret\n", encoding="utf-8")
    draw(prompts=" prompts.csv\n", pictures=1)
    assert names(out) == ["0_0.png"]
    for name in ("gone.csv", "../secret.csv", str(tmp_path / "secret.csv")):
        with pytest.raises(ValueError, match=r"which can't be read from ComfyUI's input folder"):
            draw(prompts=name)


WRONG = [
    ({"prompts": "a cat"}, r"Got a prompt list that begins with 'a cat', expected a CSV"),
    ({"folder_name": "../x"}, r"Got the folder name '\.\./x', expected a name inside ComfyUI's"),
    ({"folder_name": "taken"}, r"Got the folder name 'taken', which is a file's, expected a fold"),
    ({"resolution": 72}, r"Got resolution 72 pixels, expected a multiple of 16"),
    ({"guidance": float("nan")}, r"Got guidance nan, expected a number"),
]


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=[str(one) for one, _ in WRONG])
def test_inputs_of_the_list(
    draw: Callable[..., Any],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.setattr(prompt_list, "encoder_for", None)  # before any work
    out.parent.mkdir()
    (out.parent / "taken").touch()
    with pytest.raises(ValueError, match=says):
        draw(**changes)
    assert names(out.parent) == ["taken"]


# --- in the host's executor ----------------------------------------------------------------------

LORA = {"file": "a.safetensors", "strength": 1.0}
TINY = {name: ["tiny", slot] for slot, name in enumerate(("model", "clip", "vae"))}


@pytest.fixture
def host(
    model: Any, vae: Any, loras: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Runs workflows one after another, with one cache, and gives what each node has shown."""
    monkeypatch.setattr(folder_paths, "user_directory", str(loras.parent / "user"))
    monkeypatch.setattr(demo, "load_tiny", lambda family: (model, graph.clip(), vae))
    save_lora(loras / "a.safetensors", graph.lora_state(model), {"concept": "star"})
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    for name, node in NODES.items():
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, node)
    loop = asyncio.new_event_loop()
    running = server.PromptServer(loop)
    running.prompt_queue = queue = execution.PromptQueue(running)
    cache = {"lru": 0, "ram": 0, "ram_inactive": 0}
    executor = execution.PromptExecutor(running, cache_args=cache)

    def run(prompt: dict[str, Any]) -> tuple[bool, str]:
        before = {path: path.stat().st_mtime_ns for path in out.glob("*")}
        queue.currently_running = {0: (0, "a", prompt)}
        executor.execute(prompt, "a", {}, ["list"])
        told = [str(each.get("exception_message", "")) for _, each in executor.status_messages]
        after = {path: path.stat().st_mtime_ns for path in out.glob("*")}
        return after != before, "".join(told)

    yield run
    loop.close()


def workflow(**changes: Any) -> dict[str, Any]:
    """A miniature with a LoRA on it draws one picture."""
    kinds = {
        "tiny": ("EraseAnythingTinyFlux", {"family": "Flux"}),
        "lora": ("EraseAnythingApply", {**graph.APPLY, **LORA, "model": ["tiny", 0]}),
        "list": ("EraseAnythingPromptList", {**TINY, **LIST, "pictures": 1, "steps": 1}),
    }
    kinds["list"][1]["model"] = ["lora", 0]
    kinds["lora"][1].update(changes)
    return {node: {"class_type": kind, "inputs": given} for node, (kind, given) in kinds.items()}


def test_another_model_in_the_workflow_is_told(host: Any, out: Path) -> None:
    assert host(workflow()) == (True, "")
    assert host(workflow()) == (False, "")
    changed, says = host(workflow(strength=0.5))
    assert not changed and "4_0.png, drawn with another model" in says
    for gone in (["6_0.png"], ["4_0.png", "6_0.png"], ["4_0.png", "6_0.png"]):
        for name in gone:
            (out / name).unlink()
        assert host(workflow()) == (True, "")  # not taken from the cache: a picture was gone
    assert names(out) == ["4_0.png", "6_0.png"]
