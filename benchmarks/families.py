"""How exact every model family is in this ComfyUI, and what a step of it needs.

`python -m benchmarks.families` runs the tests of the families' tiny nets, which note how far each
figure is from the host's own, and counts the memory of a step at the families' real sizes, without
weights. COMFYUI_PATH names another ComfyUI, whose rows stand beside the others. `--block` measures
a step on one block of each kind at real width, with random weights, beside what is counted for it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import Any

from .pack import ROOT, import_pack

import_pack()

import comfy.model_patcher
import comfy.supported_models
import comfyui_version
import torch
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig
from eraseanything_pack.erase_engine.interfaces import Prompt
from eraseanything_pack.nodes.training.memory_check import peak_of_step

from .full_width import CONFIG, DEPTH, SINGLES, config_of, encoded_plan, fill
from .memory import give_back_freed_memory, in_own_process
from .process_memory import megabytes
from .result_file import RESULTS, read_result, versions, write_result
from .step import Clock, full_step

RESULT = RESULTS / "families.json"
TESTS = ("tests/host/families/test_families.py", "tests/host/headless/test_one_model.py")
META = torch.device("meta")
MEGABYTE = 2**20
ONE = {"width": 512, "height": 512, "batch": 1, "keep_per_step": 1}
WATCHED = 8  # text tokens
BLOCKS = {"depth", "num_blocks", "depth_single_blocks", "num_layers", "n_layers"}

FLUX = {
    "image_model": "flux",
    **CONFIG,
    "depth": DEPTH,
    "depth_single_blocks": SINGLES,
}
LAYERS = ("in_channels", "out_channels", "vec_in_dim", "guidance_embed")
CHROMA = {
    **{key: value for key, value in FLUX.items() if key not in LAYERS},
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 3072,
    "hidden_dim": 5120,
    "n_layers": 5,
}
KLEIN = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "context_in_dim": 7680,
    "mlp_ratio": 3.0,
    "depth": 5,
    "depth_single_blocks": 20,
    "axes_dim": [32] * 4,
    "theta": 2000,
    "qkv_bias": False,
    "guidance_embed": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
DEV = {
    **KLEIN,
    "hidden_size": 6144,
    "num_heads": 48,
    "context_in_dim": 15360,
    "depth": 8,
    "depth_single_blocks": 48,
    "guidance_embed": True,
}
QWEN = {
    "image_model": "qwen_image",
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "axes_dims_rope": (16, 56, 56),
}
LUMINA_2 = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "n_refiner_layers": 2,
    "qk_norm": True,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
}
Z_IMAGE = {
    **LUMINA_2,
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}

AURAFLOW = {"n_layers": 36, "n_double_layers": 4, "max_seq": 4096}  # and the class's own sizes


def sd3(depth: int, **others: Any) -> dict[str, Any]:
    """Of Stable Diffusion 3 and 3.5, whose width is 64 for each block."""
    text = {"in_features": 4096, "out_features": 64 * depth}
    return {
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": 2,
        "depth": depth,
        "num_blocks": depth,
        "input_size": None,
        "adm_in_channels": 2048,
        "num_patches": 36864,
        "pos_embed_max_size": 192,
        "pos_embed_scaling_factor": None,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": text},
        **others,
    }


# By the tiny net's name: ComfyUI's model, its real sizes; tokens and width of a text, pooled width.
REAL: dict[str, tuple[str, dict[str, Any], tuple[int, int], int | None]] = {
    "flux": ("Flux", FLUX, (512, 4096), 768),
    "sd3": ("SD3", sd3(24), (154, 4096), 2048),
    "sd3.5-large": ("SD3", sd3(38, qk_norm="rms"), (154, 4096), 2048),
    "sd3.5-medium": (
        "SD3",
        sd3(24, qk_norm="rms", x_block_self_attn_layers=list(range(13))),
        (154, 4096),
        2048,
    ),
    "chroma": ("Chroma", CHROMA, (64, 4096), None),
    "flux2-klein": ("Flux2", KLEIN, (512, 7680), None),
    "flux2-dev": ("Flux2", DEV, (512, 15360), None),
    "qwen-image": ("QwenImage", QWEN, (64, 3584), None),
    "auraflow": ("AuraFlow", AURAFLOW, (256, 2048), None),
    "z-image": ("ZImage", Z_IMAGE, (64, 2560), None),
    "lumina2": ("Lumina2", LUMINA_2, (64, 2304), None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", nargs="*", choices=REAL, help="of these families, or of all")
    options = parser.parse_args()
    host, known = comfyui_version.__version__, read_result(RESULT) or {"rows": []}
    exact = {row["family"]: row for row in known["rows"] if row["host"] == host}
    if options.block is not None:
        names = options.block or REAL
        rows = [{**exact[name], **in_own_process(one_block, name)} for name in names]
    else:
        found = figures()
        rows = [{**exact.get(name, {}), **found[name], **memory(name)} for name in found]
        rows = [
            {"family": name, "host": host, **row} for name, row in zip(found, rows, strict=True)
        ]
    written = {row["family"]: row for row in rows}
    others = [row for row in known["rows"] if row["host"] != host or row["family"] not in written]
    result = {
        "command": "python -m benchmarks.families, and with --block",
        "versions": versions(),
        "size": ONE,
        "rows": sorted([*others, *rows], key=lambda row: (row["host"], row["family"])),
    }
    write_result(RESULT, result)
    for row in rows:
        print(row)


def figures() -> dict[str, dict[str, float]]:
    """By net: the worst of each figure that its tests note; CalledProcessError where one fails."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *TESTS, f"--junitxml={report}"]
        command += ["-o", "junit_family=xunit1"]  # the form that has properties
        subprocess.run(command, cwd=ROOT, check=True)
        for case in ElementTree.parse(report).iter("testcase"):
            for noted in case.iter("property"):
                net, figure = noted.attrib["name"].split("/")
                worst = max(found[net].get(figure, 0.0), float(noted.attrib["value"]))
                found[net][figure] = float(f"{worst:.1e}")
    return found


def memory(name: str) -> dict[str, float]:
    """Megabytes of the weights in bf16, and of a step of *fast* beside them; {}: no real size."""
    if name not in REAL:
        return {}
    _, _, text, pooled = REAL[name]
    model = model_of(name, META)
    prompt = Prompt(torch.empty(text), None if pooled is None else torch.empty(pooled))
    found = {}
    for way, checkpointing in (("checkpointed", True), ("kept", False)):
        estimate = peak_of_step(
            model,
            EraseConfig.from_recipe("fast", **ONE),
            prompt,
            watched=WATCHED,
            checkpointing=checkpointing,
        )
        found["weights_mb"] = round(estimate.weights / MEGABYTE)
        found[f"memory_{way}_mb"] = round(estimate.beside_weights / MEGABYTE)
    return found


def model_of(name: str, device: torch.device, **changed: Any) -> Any:
    """A MODEL of a family's real size, in bf16; `changed` are other sizes of it."""
    kind, sizes, _, _ = REAL[name]
    sizes = {**sizes, **changed}
    if hasattr(comfy.ldm.flux.model, "invert_slices") and "depth_single_blocks" in sizes:
        newer = {"txt_ids_dims": [3] if "global_modulation" in sizes else []}
        sizes = {"vec_in_dim": None, **sizes, **newer}
    with torch.inference_mode():
        config = getattr(comfy.supported_models, kind)(dict(sizes))
        config.set_inference_dtype(torch.bfloat16, None)
        base = config.get_model({}, "", device=device)
        if device != META:
            fill(base.diffusion_model)
    return comfy.model_patcher.ModelPatcher(base, device, device)


def one_block(name: str) -> dict[str, float]:
    """Megabytes of a step, checkpointed, on one block of each list at real width, and estimated."""
    give_back_freed_memory()
    torch.set_num_threads(1)
    _, sizes, (tokens, width), pooled = REAL[name]
    fewer = dict.fromkeys(BLOCKS & sizes.keys(), 1)
    if "num_blocks" in fewer:  # there the width goes with `depth`
        del fewer["depth"]
    if "n_double_layers" in sizes:  # which count among `n_layers`
        fewer |= {"n_double_layers": 1, "n_layers": 2}
    encoded = encoded_plan(tokens, width=width, pooled=pooled)
    config = config_of(ONE["width"], lora=LoraConfig(targets="text_in_pooled"))
    before = megabytes("VmRSS")
    model = model_of(name, torch.device("cpu"), **fewer)
    clock = Clock(lambda: megabytes("VmHWM") - before)
    full_step(model, config, encoded, checkpointing=True, clock=clock)
    measured = megabytes("VmHWM") - before
    estimate = peak_of_step(
        model_of(name, META, **fewer),
        config,
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
    )
    found = {"block_measured_mb": measured, "block_estimated_mb": estimate.total / MEGABYTE}
    return {name: round(value) for name, value in found.items()}


if __name__ == "__main__":
    main()
