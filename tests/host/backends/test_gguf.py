"""The tiny Flux in a real GGUF file, read by ComfyUI-GGUF's own loader, layers and patcher.

`GGUF_PACK` names a folder with that pack (github.com/city96/ComfyUI-GGUF); it needs the package
gguf. Without them everything here is skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks.full_width import DTYPES
from eraseanything_pack.benchmarks.world import FIRST_SEED, World
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.file import prefixed
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.tinyworld.evaluate import found, obeyed, prompts_with, prompts_without
from eraseanything_pack.tinyworld.models import build_model, load_weights
from torch import Tensor
from wide import gradients

gguf = pytest.importorskip("gguf")
FOLDER = os.environ.get("GGUF_PACK", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="GGUF_PACK names no folder with ComfyUI-GGUF")
BLOCK = 32  # numbers in a block of these formats


@pytest.fixture(scope="module")
def pack() -> Iterator[Any]:
    """The pack's modules, as ComfyUI imports a folder of custom_nodes."""
    name, init = "gguf_pack", Path(FOLDER) / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[FOLDER])
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for each in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[each]


@pytest.fixture(scope="module", params=["Q8_0", "Q5_1", "Q4_0"])
def models(request: pytest.FixtureRequest, pack: Any, tmp_path_factory: Any) -> tuple[Any, Any]:
    """The MODEL that the pack makes of a file, and one of the same numbers unpacked."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    written(path, getattr(gguf.GGMLQuantizationType, request.param))
    names = ("nodes", "ops", "dequant", "loader")
    nodes, ops, dequant, loader = (importlib.import_module(f"{pack.__name__}.{n}") for n in names)
    state, stored = loader.gguf_sd_loader(str(path)), DTYPES["bfloat16"]
    model = build_model(state, stored, custom_operations=ops.GGMLOps())
    unpacked = {k: Tensor(dequant.dequantize_tensor(v, torch.float32)) for k, v in state.items()}
    return nodes.GGUFModelPatcher.clone(model), build_model(unpacked, stored)


def written(path: Path, kind: Any) -> None:
    """The miniature's weights, its matrices in blocks of this format."""
    writer = gguf.GGUFWriter(str(path), "flux")
    for name, weight in load_weights("flux").items():
        if weight.ndim == 2 and weight.shape[1] % BLOCK == 0:
            packed = gguf.quants.quantize(weight.numpy(), kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
        else:
            writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def world() -> World:
    return World(quickly=False)


def bits(model: Any) -> dict[str, Tensor]:
    """Copies of all weights as they are stored."""
    net = model.model.diffusion_model
    return {name: each.as_subclass(Tensor).clone() for name, each in net.named_parameters()}


def test_it_is_erased_from_and_given_back(models: tuple[Any, Any], world: World) -> None:
    """Trained and applied on the file as it is: the star goes, all else stays, so does the file."""
    model, _ = models
    there, before = world.of(model), bits(model)
    erasure = there.erase(there.plan("star"), EraseConfig.from_recipe("fast"))
    assert erasure.ended and erasure.solved
    erased = there.of(apply_lora(model, prefixed(erasure.state), 1.0, name="star")[0])
    stars, others = prompts_with("star", 12), prompts_without("star", 12)

    def verdict(where: World, prompts: Any) -> Any:
        return where.judge.look(where.draw([prompt.text for prompt in prompts], FIRST_SEED))

    assert found("star", stars, verdict(there, stars)).float().mean() >= 0.9
    assert found("star", stars, verdict(erased, stars)).float().mean() <= 0.1
    assert obeyed(others, verdict(erased, others)).mean() >= 0.95
    there.draw(["a star"], 0)  # the file's own model is loaded again
    after = bits(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gradients_are_those_of_the_weights_unpacked(models: tuple[Any, Any]) -> None:
    got, expected = (gradients(model, width=64, pooled=32) for model in models)
    for name, value in expected.items():
        assert value.norm() > 0, name
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=name)
