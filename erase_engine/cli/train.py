"""The headless command: a concept and a diffusers model in, a LoRA file out."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from ..backends.place import Place
from ..backends.spread import spread
from ..concepts.everyday import PICTURES
from ..concepts.plan import ConceptPlan
from ..interfaces import FlowModel, TextEncoder
from ..lora.adapters import adapted_layers
from ..lora.file import save_lora
from ..lora.metadata import erasure_metadata
from ..lora.stopped import remove_stopped, stopped_name
from ..memory import META, MemoryEstimate, described, estimate_memory
from ..training.disk import DiskNeed
from ..training.encoded_prompts import EncodedPrompts
from ..training.loop import Erasure, OnStep
from ..training.run import Needs, run_training
from ..validation import UNREADABLE, shortened
from .draw import draw, wants_drawing
from .options import SUFFIX, Options, read_options
from .pictures import pictures_in, read_picture
from .processes import ALONE, Processes, SharedCheckpoint, apart, launched, speaker
from .unfinished import UNFINISHED, show_unfinished

if TYPE_CHECKING:
    from ..backends.diffusers.files import ModelFiles
    from ..backends.diffusers.model import DiffusersFlowModel

MOST_SAID = 590  # letters of an error
TOLD = (ValueError, OSError, FloatingPointError)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; ends the process with a line on stderr where something is wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if UNFINISHED in given:
            done = show_unfinished(given)
        else:
            done = draw(given) if wants_drawing(given) else _run_all(read_options(given))
    except KeyboardInterrupt:
        _end("Stopped.")
    except ModuleNotFoundError as error:
        _end(
            f"Error: Got no module {error.name!r}, expected all that the command needs. "
            "Run pip install eraseanything[headless]."
        )
    except (*TOLD, torch.cuda.OutOfMemoryError) as error:
        _end(shortened(f"Error: {_words(error)}", MOST_SAID))
    if done:
        _print(done)


def _end(text: str) -> NoReturn:
    """Ends this process; one of several says which one it is."""
    sys.exit(f"{speaker()}{text}")


def _run_all(jobs: Sequence[Options]) -> str:
    """Runs one job in all processes, or several that these share out; the files' paths.

    An erasure whose file is there is done. Of several, one that fails is told, and the next begun.
    """
    if len(jobs) == 1:
        with launched(jobs[0].device) as processes:
            path = jobs[0].out if jobs[0].out.exists() else run(jobs[0], processes)
            return str(path) * processes.main
    processes, failed = apart(jobs[0].device), 0
    own = jobs[processes.index :: processes.count]
    for job in own:
        try:
            path = job.out if job.out.exists() else run(job, Processes(device=processes.device))
        except (*TOLD, torch.cuda.OutOfMemoryError) as error:
            failed += 1
            concept = shortened(job.request.concept)
            sys.stderr.write(shortened(f"Error in '{concept}': {_words(error)}", MOST_SAID) + "\n")
        else:
            _print(str(path))
        gc.collect()  # a model that refers to itself, before the next one comes
    if failed:
        raise ValueError(
            f"Got {failed} of {len(own)} erasures that failed, expected none. See above why, and "
            "run the command again: what is done is not done again."
        )
    return ""


def _words(error: BaseException) -> str:
    """What an error says to people."""
    if not isinstance(error, torch.cuda.OutOfMemoryError):
        return str(error)
    return (
        f"Got too little memory ({str(error).splitlines()[0]}), expected room for the model and "
        "its activations. Lower --resolution, or batch in the config file."
    )


def _print(text: str) -> None:
    """On stdout; names may hold letters that it can't show, or bytes that are no letters."""
    letters = sys.stdout.encoding or "utf-8"
    sys.stdout.write(f"{text}\n".encode(letters, errors="backslashreplace").decode(letters))


def run(job: Options, processes: Processes = ALONE) -> Path:
    """Trains the job's LoRA and saves it; the text encoders are gone before the model comes."""
    from ..backends.diffusers.files import ModelFiles

    place = Place.named(processes.device, job.dtype)
    host = CommandHost(job, ModelFiles(job.model, job.text_encoders), place, processes)
    checkpoint = SharedCheckpoint(processes, job.unfinished, resume=job.resume, strict=True)
    trained = run_training(host, job.request, job.config, checkpoint=checkpoint)
    for note in trained.notes:
        host.say(note)
    return trained.path


@dataclass(frozen=True)
class CommandHost:
    """`training.run.Host` of the command: a diffusers model from files, words on stderr."""

    job: Options
    files: ModelFiles
    place: Place
    processes: Processes
    vocabulary = PICTURES

    def __post_init__(self) -> None:
        if self.job.keep_images:  # what is missing is told before any work
            pictures_in(self.job.keep_images)
            self.files.check_vae()

    @property
    def dtype(self) -> torch.dtype:
        return self.place.dtype

    @property
    def cfg(self) -> float:
        return self.model.cfg

    def progress(self, total: int) -> Callable[[], None]:
        return lambda: None  # some seconds, on whatever the encoders run

    @contextmanager
    def text_encoder(self) -> Iterator[TextEncoder]:
        yield self.files.text_encoder(self.place.device, self.place.dtype)

    def keep_pictures(self) -> Tensor | None:
        if not self.job.keep_images:
            return None
        from ..backends.diffusers.vae import encode

        gc.collect()  # the text encoders, which refer to themselves
        vae = self.files.vae(self.place.device, self.place.dtype)
        size = self.job.config.height, self.job.config.width
        return encode(vae, (read_picture(each, size) for each in pictures_in(self.job.keep_images)))

    @property
    def path(self) -> Path:
        return self.job.out

    def prepare(self, plan: ConceptPlan, encoded: EncodedPrompts) -> Needs:
        gc.collect()  # the encoders refer to themselves, and their memory is wanted now
        self.say(plan.describe())
        latents = self.model.latents
        adapted_layers(self.model, self.job.config)  # says what this model has not
        self.job.config.watched_blocks(self.model.joint_blocks)
        try:
            memory = _needed(self.model, encoded, self.job, self.processes.count)
        except torch.cuda.OutOfMemoryError:
            raise
        except UNREADABLE as error:  # the first run of the model, on sizes alone
            raise ValueError(
                f"Got the model {self.job.model}, which can't be run ({shortened(str(error), 200)})"
                ", expected one whose config.json, weights and text encoders belong together. Copy "
                "or download it again."
            ) from error
        words = described(memory, self.job.config, latents, text_bytes=encoded.nbytes)
        return Needs(words, DiskNeed.of(memory, self.job.config, latents))

    @cached_property
    def model(self) -> DiffusersFlowModel:
        """Loaded when it is first asked for, after the text encoders."""
        from ..backends.diffusers.model import DiffusersFlowModel

        net = self.files.transformer(self.place.device, self.place.dtype)
        guidance = self.job.config.guidance
        return DiffusersFlowModel(net, self.files.scheduler(net), guidance=guidance)

    @contextmanager
    def session(self) -> Iterator[FlowModel]:
        with self.model.session() as model:
            yield spread(model, self.processes)

    def watch(self, model: FlowModel, plan: ConceptPlan, encoded: EncodedPrompts) -> OnStep:
        from .progress import Progress

        return Progress() if self.processes.main else lambda report: None

    def save(self, erasure: Erasure, plan: ConceptPlan, *, step: int | None = None) -> Path:
        from ..backends.diffusers.files import HOST

        out, base_model = self.job.out, self.model.description
        path = out if step is None else out.with_name(stopped_name(out.stem, step) + SUFFIX)
        if not self.processes.main:
            return path
        record = erasure_metadata(
            erasure.figures, plan, self.job.config, base_model=base_model, host=HOST
        )
        save_lora(path, erasure.state, record, overwrite=step is not None)
        if step is None:
            remove_stopped(out.with_suffix(""), path)
        return path

    def say(self, text: str) -> None:
        if self.processes.main:
            sys.stderr.write(f"{text}\n")

    def stopped(self, saved: Path | None) -> None:
        so_far = f"Saved so far as {saved}; add --resume to go on." if saved else ""
        self.say(f"\n{so_far or 'Nothing was saved.'}")


def _needed(
    model: DiffusersFlowModel, encoded: EncodedPrompts, job: Options, processes: int
) -> MemoryEstimate:
    """The peak of a step on this model in one of the processes, by parts; it is held in the
    numbers that it runs in.
    """
    from ..backends.diffusers.files import quiet

    net = model.net
    with META, quiet():
        empty = type(net).from_config(net.config).to(net.dtype)
    twin = type(model)(empty, None, guidance=job.config.guidance)
    config = replace(
        job.config.for_concepts(encoded.concepts),
        batch=math.ceil(job.config.batch / processes),
        keep_per_step=math.ceil(job.config.keep_per_step / processes),
    )
    with twin.session():
        return estimate_memory(
            twin,
            config,
            encoded.longest,
            watched=encoded.tokens.all.shape[1],
            weights=net.get_memory_footprint(),
            rows=encoded.entrance,
        )
