"""`--draw`: a CSV of prompts in, a folder of pictures out, as evaluators of erasures read them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.place import DTYPES, Place
from ..prompt_list import Case, pictures_of, read_cases, save_picture, still_to_draw
from ..training.disk import fault_of_disk
from ..validation import check_number, shortened
from .config_file import said
from .options import Parser, named
from .processes import Processes, apart

if TYPE_CHECKING:
    from ..backends.diffusers.pipeline import DrawingOptions, PipelineFiles

DRAW = "--draw"
MOST_PICTURES = 1000  # of one prompt
LEAST_ROOM = 2**20  # bytes: of a picture


@dataclass(frozen=True)
class Drawing:
    """What to draw, with which model, how, and where to."""

    cases: Sequence[Case]
    files: PipelineFiles
    options: DrawingOptions
    place: Place
    out: Path
    pictures: int  # of each case
    processes: Processes  # which share out the pictures

    def settings(self) -> dict[str, Any]:
        """What every picture depends on, for its record."""
        lora = self.files.lora
        digest = hashlib.sha256(lora.read_bytes()).hexdigest() if lora else None
        model = self.files.model.resolve().name
        return {"model": model, "lora": digest, **asdict(self.options), **self.place.in_words()}


def wants_drawing(arguments: Sequence[str]) -> bool:
    """Whether the command is asked for pictures."""
    return any(each.partition("=")[0] == DRAW for each in arguments)


def draw(arguments: list[str]) -> str:
    """Draws what is not there yet; each picture is written whole, so that a stopped run goes on.

    Raises ValueError, before any work, where the list, the files or the folder don't do.
    """
    job = _read(arguments)
    wanted, settings = pictures_of(job.cases, job.out, job.pictures), job.settings()
    wanted = wanted[job.processes.index :: job.processes.count]
    missing = still_to_draw(wanted, settings)
    sys.stderr.write(f"{len(missing)} pictures to draw, {len(wanted) - len(missing)} are there.\n")
    if missing:
        from tqdm import tqdm  # of the headless extra

        pipeline = job.files.load(job.place.device, job.place.dtype)
        for picture in tqdm(missing, unit="picture", disable=None):  # None: no bar in a log
            image = pipeline.draw(picture.prompt, picture.seed, job.options)
            save_picture(picture, image, settings)
    return str(job.out)


def _read(arguments: list[str]) -> Drawing:
    """The options, checked; the cheap ones first."""
    given = vars(_parser().parse_args(arguments))
    path, out = Path(given["draw"]), Path(given["out"])
    check_number("pictures", given["pictures"], low=1, high=MOST_PICTURES, whole=True)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Got {DRAW} {said(path)}, which can't be read "
            f"({shortened(str(error))}), expected a CSV in UTF-8. Correct the path or the file."
        ) from error
    cases = read_cases(text)
    if fault := _fault_of(out):
        raise ValueError(f"Got --out {said(out)}, {fault}, expected a folder. Choose another.")
    from ..backends.diffusers.pipeline import DrawingOptions, PipelineFiles

    files = PipelineFiles(Path(given["model"]), Path(given["lora"]) if given["lora"] else None)
    options = DrawingOptions(given["steps"], given["resolution"], given["guidance"])
    processes = apart(given["device"])
    place = Place.named(processes.device, given["dtype"])
    return Drawing(cases, files, options, place, out, given["pictures"], processes)


def _fault_of(out: Path) -> str:
    """Why no picture can be written there; "" for nothing."""
    try:
        if out.exists() and not out.is_dir():
            return "which is no folder"
    except OSError as error:
        return f"which can't be a folder ({error.strerror})"
    fault = fault_of_disk(out, LEAST_ROOM)
    return f"but {fault}" if fault else ""


def _parser() -> Parser:
    made = Parser(
        prog="python -m erase_engine",
        description="Draws each prompt of a CSV with a diffusers model and a LoRA. Pictures that "
        "are there are left out, so that a stopped run goes on.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        DRAW,
        required=True,
        metavar="CSV",
        help="with the column prompt, and case_number and evaluation_seed where wanted",
    )
    add("--model", required=True, help="whole diffusers folder, with model_index.json")
    add(
        "--lora",
        type=named,
        help="the .safetensors file of an erasure; the model as it is where not given",
    )
    add("--out", required=True, type=named, metavar="FOLDER", help="gets {case_number}_{k}.png")
    add("--pictures", type=int, default=1, metavar="K", help="of each prompt, from seed, seed + 1")
    add("--steps", type=int, help="sampling steps; the pipeline's own number where not given")
    add("--resolution", type=int, metavar="PIXELS", help="width and height; as with --steps")
    add("--guidance", type=float, help="guidance scale; as with --steps")
    add("--device", default="", help="such as cuda:1 or cpu; a GPU where there is one")
    add("--dtype", choices=DTYPES, default="", help="that the model runs in")
    return made
