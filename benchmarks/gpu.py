"""What this machine's GPU makes of it: `python -m benchmarks.gpu`, eight minutes at most.

Parts, each with its rows in one JSON file, which is written after every part:

- exact: LoRA gradients of one block of FLUX.1's width, in every kind of numbers, beside float32 on
  the CPU; the model's weights before and after.
- world: the tiny world's star erased on the GPU and on the CPU, both judged on the CPU.
- whole: a step on all of FLUX.1, random weights: seconds, and the peak beside its estimate.
- partial: the same while half of the weights stay off the card.
- core: ComfyUI's own Train LoRA beside ours.

`--rehearse` runs every line of it on the CPU, in small.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .pack import import_pack

PART = "--found" in sys.argv  # a process of its own that judges on the CPU
import_pack(cpu=PART or "--rehearse" in sys.argv)

import comfy.model_management
import comfy.model_patcher
import comfyui_version
import torch
from eraseanything_pack.erase_engine.config import LoraConfig
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.memory import GIGABYTE
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.training.memory_check import peak_of_step
from eraseanything_pack.tinyworld.evaluate import found, obeyed
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from .core import trained
from .erasure.case import Case
from .erasure.figures import percent
from .erasure.methods import config_of as recipe
from .full_width import DEPTH, SINGLES, TOKENS, build, config_of, encoded_plan
from .result_file import RESULTS, versions, write_result
from .step import Clock, full_step
from .world import World

RESULT, SECONDS = RESULTS / "gpu.json", 480
CONCEPT, SEED, COUNT = "star", 0, 48
GUIDANCE = 4.0  # hosts cast it, and multiply it by 1000: 3.5 becomes 3.504 in bfloat16
SCALE = {"float16": 2.0**14}  # of the loss, as the optimizer has it
TARGETS = "text_in_pooled"
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """How large everything is."""

    device: torch.device
    depth: int = DEPTH
    singles: int = SINGLES
    pixels: tuple[int, ...] = (512, 1024)
    batches: tuple[int, ...] = (1, 2, 4)

    @classmethod
    def rehearsal(cls) -> Setting:
        return cls(torch.device("cpu"), depth=1, singles=1, pixels=(64,), batches=(1, 2))

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Bytes, the most at a time since `forget_peak`; 0 where nobody counts."""
        return torch.cuda.max_memory_allocated(self.device) if self.on_gpu else 0

    def room(self) -> int:
        return comfy.model_management.get_total_memory(self.device)

    def model(self, depth: int, singles: int, dtype: str) -> Any:
        """A Flux of FLUX.1's width that waits in the computer's memory."""
        built = build(depth, singles, dtype)
        return comfy.model_patcher.ModelPatcher(built.model, self.device, torch.device("cpu"))


# --- parts ---------------------------------------------------------------------------------------


def exact(setting: Setting) -> Rows:
    expected = gradients(build(1, 1, "float32"), 1.0)
    for dtype in ("float32", "bfloat16", "float16", "float8_e4m3fn"):
        model = setting.model(1, 1, dtype)
        before = digest(model)
        # float8 weights are other numbers: their own in float32 are what is right for them.
        right = gradients(in_float32(model), 1.0) if dtype == "float8_e4m3fn" else expected
        grads = gradients(model, SCALE.get(dtype, 1.0))
        comfy.model_management.unload_all_models()
        off = float((grads - right).norm() / right.norm())
        yield {"dtype": dtype, "gradient_off": off, "given_back": digest(model) == before}


def world(setting: Setting) -> Rows:
    own = World()
    plan, config = own.plan(CONCEPT), replace(recipe("fast", SEED), width=128, height=128)
    encoded = encode_prompts(plan, own.encoder, **needed_by(config))
    began = time.perf_counter()
    with torch.inference_mode(), training_session(own.model, checkpointing=False) as backend:
        generator = Generator().manual_seed(config.seed)
        state = train_erasure(backend, encoded, config, generator=generator).state
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "star.safetensors"
        save_file(state, path)
        command = [sys.executable, "-m", "benchmarks.gpu", "--found", str(path)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    both = json.loads(told.splitlines()[-1])
    yield {"where": str(setting.device), "seconds": round(seconds, 1), **both["given"]}
    yield {"where": "cpu", **both["own"]}


def whole(setting: Setting) -> Rows:
    for dtype in ("float8_e4m3fn", "bfloat16"):
        model = setting.model(setting.depth, setting.singles, dtype)
        for pixels in setting.pixels:
            for batch in setting.batches:
                yield {"dtype": dtype, **timed_step(setting, model, dtype, pixels, batch)}
        comfy.model_management.unload_all_models()


def partial(setting: Setting) -> Rows:
    model = setting.model(setting.depth, setting.singles, "bfloat16")
    for share in (1.0, 0.5):
        kept_free = int(setting.room() - share * model.model_size()) if setting.on_gpu else 0
        row = timed_step(
            setting, model, "bfloat16", setting.pixels[0], 1, memory_required=kept_free
        )
        loaded = model.loaded_size() / GIGABYTE
        comfy.model_management.unload_all_models()
        yield {"share_on_the_card": share, "loaded_gb": round(loaded, 2), **row}


def core(setting: Setting) -> Rows:
    blocks = (2, 2) if setting.on_gpu else (1, 1)
    for way in ("core", "text_qk", "all_attention"):
        built = build(*blocks, "bfloat16", inference=False)
        model = comfy.model_patcher.ModelPatcher(built.model, setting.device, torch.device("cpu"))
        setting.forget_peak()
        row = trained(way, model, setting.pixels[0])
        setting.wait()
        comfy.model_management.unload_all_models()
        yield {**row, "peak_gb": round(setting.peak() / GIGABYTE, 2)}


PARTS: dict[str, Callable[[Setting], Rows]] = {
    each.__name__: each for each in (exact, world, whole, partial, core)
}


# --- what they are made of -----------------------------------------------------------------------


def gradients(model: Any, scale: float) -> Tensor:
    """Of velocity and attention mass to adapters whose B is away from 0: all in a row, float32."""
    generator = Generator().manual_seed(2)
    x_t = torch.randn(1, 16, 8, 8, generator=Generator().manual_seed(3))
    capture = AttentionCapture(torch.tensor(TOKENS), (0,))
    with torch.inference_mode(), training_session(model, guidance=GUIDANCE) as backend:
        slices = backend.linear_slices(backend.target_names(TARGETS))
        lora = backend.adapters(slices, rank=8, generator=generator)
        for parameter in lora.parameters()[1::2]:
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        with lora.attach(slices):
            v = backend.velocity(x_t, torch.tensor([0.6]), encoded_plan(8).concept, capture=capture)
            loss = v.square().mean() + sum(mass.mean() for mass in capture.mass.values())
            grads = torch.autograd.grad(scale * loss, lora.parameters())
    return torch.cat([grad.float().cpu().flatten() for grad in grads]) / scale


def in_float32(model: Any) -> Any:
    """A Flux on the CPU with the same numbers in a larger type."""
    twin = build(1, 1, "float32")
    state = model.model.diffusion_model.state_dict()
    with torch.inference_mode():
        for name, weight in twin.model.diffusion_model.state_dict().items():
            weight.copy_(state[name].float())
    return twin


def digest(model: Any) -> str:
    """A hash of every weight, bit by bit."""
    hashed = hashlib.sha256()
    for weight in model.model.diffusion_model.state_dict().values():
        hashed.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def timed_step(
    setting: Setting,
    model: Any,
    dtype: str,
    pixels: int,
    batch: int,
    *,
    memory_required: int = 0,
) -> dict[str, Any]:
    """Seconds and peak of a step after a first one, and how often the card was waited for."""
    encoded = encoded_plan()
    config = config_of(pixels, batch=batch, keep_per_step=batch, lora=LoraConfig(targets=TARGETS))
    estimate = peak_of_step(
        build(setting.depth, setting.singles, dtype, device="meta"),
        config,
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
    )
    row: dict[str, Any] = {"pixels": pixels, "batch": batch}
    row["estimated_gb"] = round(estimate.total / GIGABYTE, 2)
    if setting.on_gpu and estimate.total + GIGABYTE > setting.room() and not memory_required:
        return row | {"left_out": "more than this card has"}
    options: dict[str, Any] = {"checkpointing": True, "memory_required": memory_required}
    clock = Clock(lambda: setting.peak() / 2**20)
    full_step(model, config, encoded, clock=clock, **options)
    setting.wait()
    setting.forget_peak()
    with counted_waits(setting) as waits:
        full_step(model, config, encoded, clock=clock, **options)
        setting.wait()
    seconds = clock.elapsed()[0]
    peak = round(setting.peak() / GIGABYTE, 2)
    return row | {"seconds": round(seconds, 3), "peak_gb": peak, "waits": len(waits)}


def counted_waits(setting: Setting) -> Any:
    """Collects a warning for each time that the computer waits for the card."""
    if setting.on_gpu:
        torch.cuda.set_sync_debug_mode("warn")
    return warnings.catch_warnings(record=True)


def judged(path: Path) -> dict[str, Any]:
    """The star found, and all else obeyed, with a given LoRA and with one trained here."""
    case = Case(World(), CONCEPT, SEED, COUNT)
    own = case.world.erase(case.plan, recipe("fast", SEED))
    state = load_file(path)
    result = {}
    for name, erasure in (("given", replace(own, state=state)), ("own", own)):
        seen = {k: case.world.judge.look(case.draw(k, erasure)) for k in ("named", "others")}
        star = found(CONCEPT, case.prompts["named"], seen["named"])
        rest = obeyed(case.prompts["others"], seen["others"])
        result[name] = {"found": percent(star), "everything_else": percent(rest)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="in small, on the CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=int, default=SECONDS, help="no part begins later")
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.found:
        print(json.dumps(judged(options.found)))
        return
    setting = Setting.rehearsal() if options.rehearse else Setting(card())
    result: dict[str, Any] = {
        "command": "python -m benchmarks.gpu" + " --rehearse" * options.rehearse,
        "versions": {**versions(), "comfyui": comfyui_version.__version__},
        "card": torch.cuda.get_device_name(setting.device) if setting.on_gpu else "none, rehearsed",
    }
    began = time.monotonic()
    for part in options.parts:
        rows = result[part] = []
        try:
            for row in PARTS[part](setting):
                rows.append(row)
                print(part, json.dumps(row), flush=True)
                if time.monotonic() - began > options.seconds:
                    break
        except Exception as error:  # the other parts are worth having
            rows.append({"error": f"{type(error).__name__}: {error}"[:600]})
            print(part, rows[-1], flush=True)
        write_result(options.out, result)


def card() -> torch.device:
    """The GPU; SystemExit where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("Got no CUDA GPU, expected one. Add --rehearse to try it on the CPU.")
    return comfy.model_management.get_torch_device()


if __name__ == "__main__":
    main()
