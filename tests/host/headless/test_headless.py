"""The headless command: a diffusers model in, a LoRA file out, and clear words otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles
from eraseanything_pack.erase_engine.backends.diffusers.model import DiffusersFlowModel
from eraseanything_pack.erase_engine.cli import progress as headless
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.lora.file import load_lora, read_metadata
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from safetensors.torch import load_file, save_file
from tiny_diffusers import SMALL, save_pipeline, save_text_encoders
from tiny_flux import build, inputs

DOWN = ".lora_A.weight"
ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
LAYERS = 2 * 4 + 2  # text_pooled, of two double blocks
# Runs the command in a process that can't reach any network.
OFFLINE = """
import runpy, socket
def refuse(*args): raise SystemExit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = refuse
runpy.run_module("erase_engine", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Flux as a diffusers folder."""
    return save_pipeline(tmp_path_factory.mktemp("tiny"), build())


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The command's arguments, some exchanged: `command(concept="dog")`."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)

    def make(**changes: Any) -> list[str]:
        options = {"model": folder, "concept": "star", "config": config, "out": tmp_path / "a"}
        given = {key: value for key, value in (options | changes).items() if value is not None}
        return [
            text
            for key, value in given.items()
            for text in (f"--{key.replace('_', '-')}", str(value))
        ]

    return make


def files_of(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.safetensors")]


def test_command_writes_a_file_without_network(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *command(synonyms="pentagram")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "a.safetensors"
    assert done.stdout == f"{path}\n"
    assert "Erase: star (object)\nAlso erase: pentagram" in done.stderr
    assert "Expected to need about " in done.stderr and "0.0 GB" not in done.stderr
    assert "100% step 2/2, 00:00 left, esd=0." in done.stderr
    state, record = load_lora(path)
    assert record["concept"] == "star" and len(state) == 2 * LAYERS
    assert any(value.any() for key, value in state.items() if "lora_B" in key)


def test_record_is_the_nodes(
    command: Callable[..., list[str]], tmp_path: Path, loras: Path
) -> None:
    main(command())
    graph.erase(graph.flux(), steps=1)
    ours = read_metadata(tmp_path / "a.safetensors")
    theirs = read_metadata(next(loras.rglob("*.safetensors")))
    assert ours.keys() == theirs.keys()
    versions = [json.loads(record["versions"]) for record in (ours, theirs)]
    assert versions[0].keys() - versions[1].keys() == {"diffusers"}
    assert versions[1].keys() - versions[0].keys() == {"comfyui"}
    assert ours["base_model"] == theirs["base_model"] == model_description(build())
    assert ours["format_version"] == theirs["format_version"]


@torch.no_grad()
def test_file_acts_alike_in_the_apply_node(
    command: Callable[..., list[str]], folder: Path, tmp_path: Path
) -> None:
    main(command())
    state, record = load_lora(tmp_path / "a.safetensors")
    strong = {key: value * 100 if "lora_B" in key else value for key, value in state.items()}
    named = {f"transformer.{key}": value for key, value in strong.items()}
    model, layers = apply_lora(build(), named, 1.0, name="a", metadata=record)
    with training_session(model) as comfy:
        theirs = comfy.velocity(*inputs())
    with training_session(build()) as comfy:
        base = comfy.velocity(*inputs())
    backend = backend_on(folder)
    slices = backend.linear_slices(key.removesuffix(DOWN) for key in state if key.endswith(DOWN))
    lora = LoraSet(slices, rank=2, generator=torch.Generator())
    lora.load_state_dict(strong)
    with lora.attach(slices):
        ours = backend.velocity(*inputs())
    assert layers == LAYERS and (ours - base).abs().max() > 1e-3
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def backend_on(folder: Path, guidance: float = 3.5) -> DiffusersFlowModel:
    files = ModelFiles(folder)
    net = files.transformer(CPU, torch.float32)
    return DiffusersFlowModel(net, files.scheduler(net), guidance=guidance)


def test_record_is_enough_to_train_again(
    command: Callable[..., list[str]], folder: Path, tmp_path: Path
) -> None:
    main(command(recipe="paper", seed=3))
    expected, record = load_lora(tmp_path / "a.safetensors")
    plan = ConceptPlan.from_json(record["plan"])
    config = EraseConfig.from_json(record["config"])
    assert config.recipe == "paper" and config.seed == 3
    encoder = ModelFiles(folder).text_encoder(CPU, torch.float32)
    encoded = encode_prompts(plan, encoder, contrast=True)
    generator = torch.Generator().manual_seed(3)
    with backend_on(folder, guidance=3.0).session() as backend:
        found = train_erasure(backend, encoded, config, generator=generator).state
    assert {key for key in found if not key.endswith(".alpha")} == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_single_file_gives_the_folders_lora(
    command: Callable[..., list[str]], folder: Path, tmp_path: Path
) -> None:
    """Another file's alignment may round anew; the published layout: see test_single_files."""
    own = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    main(command())
    expected = load_file(tmp_path / "a.safetensors")
    out = tmp_path / "of_file.safetensors"
    main(command(model=own, text_encoders=folder, out=out))
    torch.testing.assert_close(load_file(out), expected, rtol=1e-5, atol=1e-5)
    rounded = {"figures": "", "modelspec.hash_sha256": ""}
    same = {**read_metadata(tmp_path / "a.safetensors"), **rounded}
    assert {**read_metadata(out), **rounded} == same


def test_schnell_has_no_guidance(command: Callable[..., list[str]], tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path / "schnell", build(guidance_embed=False))
    main(command(model=folder))
    backend = backend_on(folder)
    assert backend.guidance is None
    assert torch.equal(backend.timesteps(4, 8, 8), torch.tensor([1, 0.75, 0.5, 0.25, 0]))
    assert (tmp_path / "a.safetensors").is_file()


WRONG = [
    ({"model": "nowhere"}, r"Got the model nowhere, expected a diffusers folder with"),
    ({"text_encoders": "/nowhere"}, r"Got /nowhere without tokenizer, .* with --text-encoders"),
    ({"device": "cuda:99"}, r"Got the device 'cuda:99' \(.*\), expected one of this machine"),
    ({"device": "abacus"}, r"Got the device 'abacus' \(.*\)"),
    ({"concept": None}, r"Got no concept, .* Name it with --concept"),
    ({"keep": "a red star"}, r"Got 'a red star' both to keep and to erase"),
    ({"resolution": 100}, r"Got width 100 pixels, expected a multiple of 16"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[str(one) for one, _ in WRONG])
def test_wrong_words_end_the_command(
    command: Callable[..., list[str]], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SystemExit, match=f"^Error: {message}"):
        main(command(**changes))
    assert not files_of(tmp_path)


def test_nothing_is_overwritten(command: Callable[..., list[str]], tmp_path: Path) -> None:
    taken = tmp_path / "a.safetensors"
    taken.write_text("mine")
    with pytest.raises(SystemExit, match=r"a\.safetensors exists, expected the name of a new"):
        main(command())
    assert taken.read_text() == "mine"


ENDINGS = [
    (KeyboardInterrupt(), r"^Stopped\.$"),
    (torch.cuda.OutOfMemoryError("no 2 GiB\nmore"), r"^Error: Got too little memory \(no 2 GiB\)"),
    (FloatingPointError("Got nan"), r"^Error: Got nan$"),
]


@pytest.mark.parametrize(("trouble", "message"), ENDINGS, ids=lambda one: type(one).__name__)
def test_trouble_ends_in_words_and_what_is_done_is_saved(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: BaseException,
    message: str,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match=message):
        patch.setattr(headless.Progress, "__call__", stop_with(trouble, 1))
        main(command())
    assert files_of(tmp_path) == ["a_step1.safetensors"]
    assert "a_step1.safetensors; add --resume to go on." in capsys.readouterr().err
    assert json.loads(read_metadata(tmp_path / "a_step1.safetensors")["figures"])["steps"] == 1


def test_what_was_stopped_goes_on_to_the_same_file(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(headless.Progress, "__call__", stop_with(KeyboardInterrupt(), 1))
        main(command())
    main([*command(), "--resume"])
    assert files_of(tmp_path) == ["a.safetensors"]  # no "a_step1.safetensors" any more
    main(command(out=tmp_path / "b"))
    whole, resumed = (tmp_path / f"{name}.safetensors" for name in "ba")
    assert resumed.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def stop_with(trouble: BaseException, step: int) -> Any:
    def stop(self: Any, report: Any) -> None:
        if report.step == step:
            raise trouble

    return stop


def test_before_the_first_step_there_is_nothing_to_save(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(headless.Progress, "__call__", stop_with(KeyboardInterrupt(), 0))
    with pytest.raises(SystemExit, match=r"^Stopped\.$"):
        main(command())
    assert not files_of(tmp_path) and "Nothing was saved." in capsys.readouterr().err


def test_another_training_is_not_gone_on_from(
    command: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(headless.Progress, "__call__", stop_with(KeyboardInterrupt(), 1))
        main(command())
    with pytest.raises(SystemExit, match=r"Got \w+ \(another concept.*begin anew"):
        main([*command(concept="dog"), "--resume"])


def test_damaged_and_other_files_are_named(folder: Path, tmp_path: Path) -> None:
    save_text_encoders(tmp_path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(
        ValueError,
        match=r"broken\.safetensors, which can't be read as FLUX\.1 .* \(",
    ):
        ModelFiles(broken).transformer(CPU, torch.float32)
    other = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match=r"Got a file with \['conv\.weight'\] and without \["):
        ModelFiles(other).transformer(CPU, torch.float32)
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(
        ValueError, match=r"config\.json: Got UNet2DModel, expected a Flux, SD3, .* model"
    ):
        ModelFiles(tmp_path).transformer(CPU, torch.float32)
    own = (folder / "transformer" / "config.json").read_bytes()
    (tmp_path / "transformer" / "config.json").write_bytes(own)
    (tmp_path / "text_encoder" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"which can't be read as FLUX\.1"):
        ModelFiles(tmp_path).text_encoder(CPU, torch.float32)
