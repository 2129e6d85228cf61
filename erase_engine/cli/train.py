"""The headless command: a concept and a diffusers model in, a LoRA file out."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..concepts.plan import ConceptPlan
from ..concepts.planner import plan_concept
from ..lora.file import save_lora
from ..memory import MemoryEstimate, TrainingSize, described, estimate_memory
from ..training.checkpoint import Checkpoint
from ..training.encoded_prompts import EncodedPrompts, encode_prompts
from ..training.loop import Erasure, StepReport, save_on_interrupt, train_erasure
from ..training.metadata import erasure_metadata
from .options import SUFFIX, Options, read_options

if TYPE_CHECKING:
    from ..backends.diffusers.files import ModelFiles

SHOWN_EVERY = 0.05  # of all work, where stderr is no terminal


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; ends the process with a line on stderr where something is wrong."""
    try:
        path = run(read_options(arguments))
    except KeyboardInterrupt:
        sys.exit("Stopped.")
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: Got no module {error.name!r}, expected all that the command needs. "
            "Run pip install eraseanything[headless]."
        )
    except torch.cuda.OutOfMemoryError as error:
        sys.exit(
            f"Error: Got too little memory ({str(error).splitlines()[0]}), expected room for the "
            "model and its activations. Lower --resolution, or batch in the config file."
        )
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"Error: {error}")
    sys.stdout.write(f"{path}\n")


def run(job: Options) -> Path:
    """Trains the job's LoRA and saves it; the text encoders are gone before the model comes."""
    from ..backends.diffusers.files import ModelFiles

    files = ModelFiles(job.model, job.text_encoders)
    place = _place(job)
    plan, encoded = _encoded(job, files, place)
    gc.collect()  # the encoders refer to themselves, and their memory is wanted now
    _say(plan.describe())
    return _trained(job, files, place, plan=plan, encoded=encoded)


@dataclass(frozen=True)
class Place:
    """Where the model runs, and in which numbers."""

    device: torch.device
    dtype: torch.dtype


def _place(job: Options) -> Place:
    """As asked for, else a GPU in bfloat16 where there is one; ValueError for no such device."""
    name = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = job.dtype or ("float32" if name == "cpu" else "bfloat16")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"Got the device {name!r} ({why}), expected one of this machine, such as cuda, cuda:1 "
            "or cpu. Correct --device, or leave it out."
        ) from error
    return Place(device, getattr(torch, dtype))


def _encoded(job: Options, files: ModelFiles, place: Place) -> tuple[ConceptPlan, EncodedPrompts]:
    encoder = files.text_encoder(place.device, place.dtype)
    plan = plan_concept(job.request, encoder)
    encoded = encode_prompts(plan, encoder, contrast=job.config.weights.rsc > 0, dtype=place.dtype)
    return plan, encoded


def _trained(
    job: Options, files: ModelFiles, place: Place, *, plan: ConceptPlan, encoded: EncodedPrompts
) -> Path:
    from ..backends.diffusers.files import HOST
    from ..backends.diffusers.model import DiffusersFlowModel

    net = files.transformer(place.device, place.dtype)
    backend = DiffusersFlowModel(net, files.scheduler(net), guidance=job.config.guidance)
    _say(described(_needed(net, encoded, job, place), job.config, backend.latent_channels))
    generator = torch.Generator().manual_seed(job.config.seed)
    checkpoint = Checkpoint(job.unfinished, resume=job.resume, strict=True)

    def save(path: Path, erasure: Erasure) -> Path:
        base_model = backend.description
        record = erasure_metadata(erasure, plan, job.config, base_model=base_model, host=HOST)
        return save_lora(path, erasure.state, record, overwrite=path != job.out)

    def keep(so_far: Erasure | None, step: int) -> None:
        if so_far is None:
            _say("\nNothing was saved.")
            return
        path = save(job.out.with_name(f"{job.out.stem}_step{step}{SUFFIX}"), so_far)
        _say(f"\nSaved so far as {path}; add --resume to go on.")

    with save_on_interrupt(checkpoint, keep), backend.session():
        erasure = train_erasure(
            backend,
            encoded,
            job.config,
            generator=generator,
            on_step=Progress(),
            checkpoint=checkpoint,
        )
    path = save(job.out, erasure)
    checkpoint.clear()
    return path


def _needed(net: Any, encoded: EncodedPrompts, job: Options, place: Place) -> MemoryEstimate:
    """The peak of a step on a diffusers Flux, which is held in the numbers that it runs in."""
    setting = TrainingSize.of(
        job.config,
        encoded.concept.text.shape[1],
        depth=net.config.num_layers,
        singles=net.config.num_single_layers,
        hidden=net.inner_dim,
        weight_bytes=place.dtype.itemsize,
        compute_bytes=place.dtype.itemsize,
    )
    return estimate_memory(setting)


@dataclass
class Progress:
    """Shows on stderr how far a training is, by forward passes: rewritten on a terminal."""

    _begun: float = field(default_factory=time.monotonic)
    _shown: float = 0.0  # share of the work
    _before: float | None = None  # share that an earlier run has done

    def __call__(self, report: StepReport) -> None:
        share = report.forwards / report.total_forwards
        if self._before is None:
            self._before = share if report.step > 1 else 0.0
        if sys.stderr.isatty():
            erase_rest = "\x1b[K"
            end = "\n" if report.step == report.total else ""
            sys.stderr.write(f"\r{self._line(report, share)}{erase_rest}{end}")
            sys.stderr.flush()
        elif share >= self._shown + SHOWN_EVERY or report.step == report.total:
            self._shown = share
            _say(self._line(report, share))

    def _line(self, report: StepReport, share: float) -> str:
        mine = share - (self._before or 0.0)
        left = (time.monotonic() - self._begun) * (1 - share) / max(mine, 1e-9) / 60  # minutes
        losses = "".join(f", {name} {value:.4f}" for name, value in report.losses.items())
        doing = f"step {report.step}/{report.total}" if report.step else "sampling states"
        return f"{share:4.0%} {doing}, {left:.0f} min left{losses}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
