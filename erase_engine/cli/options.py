"""What the headless command is asked for: options and a config file, read into the engine's words.

A config file holds fields of `EraseConfig` and `ConceptRequest` side by side, or what another
trainer asks for (`other_forms`); options win over it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..backends.place import DTYPES
from ..concepts.request import ConceptRequest
from ..concepts.text_fields import read_fields
from ..concepts.vocabulary import KINDS
from ..config import RECIPES, EntranceConfig, EraseConfig, LoraConfig, LossWeights
from ..training.states.pictures import check_pictures_count
from ..validation import check_fields, shortened
from .config_file import OF_CONFIG, OF_REQUEST, file_of, read_config, read_erasures, said
from .other_forms import narrowed

SUFFIX = ".safetensors"
LONGEST_NAME = 200  # bytes of a file's name; drafts and stopped ones have longer ones
# Options whose value goes into fields of other names.
_FIELDS = {"replace_with": ("replacement",), "resolution": ("width", "height")}


@dataclass(frozen=True)
class Options:
    """One erasure to run: what, how, with which model, and where to."""

    request: ConceptRequest
    config: EraseConfig
    model: Path
    text_encoders: Path | None
    keep_images: Path | None  # a folder of pictures
    out: Path
    device: str  # "" chooses
    dtype: str  # "" chooses
    resume: bool  # go on from where it was stopped

    @property
    def unfinished(self) -> Path:
        """The folder that a stopped training goes on from."""
        return self.out.with_suffix(".unfinished")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with options as the engine says it."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(
            2,
            f"Error: Got options that can't be read ({shortened(message, 200)}), expected those of "
            "--help. Correct them.\n",
        )


def named(text: str) -> str:
    """A file's or folder's name in an option; empty, as of a variable that is not set, it is none.

    Raises argparse's error: without the option the job would be another one.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def parser() -> argparse.ArgumentParser:
    """The command's options; those that are not given are not in the result."""
    made = Parser(
        prog="python -m erase_engine",
        description="Trains a LoRA that makes a Flux model unable to draw a concept. "
        "Uses files on this machine only.",
        epilog="python -m erase_engine --unfinished [FOLDER] [--clear] lists, or removes, what "
        "stopped trainings have left there to be resumed. python -m erase_engine --draw CSV --help "
        "says how prompts of a list are drawn.",
        argument_default=argparse.SUPPRESS,
    )
    add = made.add_argument
    add("--model", required=True, help="diffusers folder, or .safetensors file of the transformer")
    add(
        "--text-encoders",
        type=named,
        help="folder with tokenizer, text_encoder, tokenizer_2, text_encoder_2",
    )
    add("--concept", help="what shall no longer be drawn, as in a prompt")
    add("--kind", choices=KINDS, help="of the concept; object where not given")
    add("--replace-with", help="what should appear instead; else the planner chooses")
    add("--synonyms", nargs="+", metavar="WORDING", help="other words for it; erased, too")
    add("--keep", nargs="+", metavar="TEXT", help="concepts or prompts that must not change")
    add(
        "--keep-images",
        type=named,
        metavar="FOLDER",
        help="pictures to keep, for the recipe paper; in the "
        "order of their names they show what --keep says",
    )
    add("--prompts", nargs="+", metavar="TEXT", help="your own sentences with the concept")
    add(
        "--recipe",
        choices=tuple(RECIPES),
        help="instant: a closed form, in seconds, soft; fast, if not given: made to hold against "
        "attacks, and trained where that does not do; hardened: holds better, a little less clean; "
        "paper: as published",
    )
    add("--steps", type=int, help="at most so many; fast and hardened end by themselves")
    add("--resolution", type=int, metavar="PIXELS", help="width and height trained on")
    add("--seed", type=int, help="the same seed gives the same file")
    add(
        "--config",
        help="JSON, YAML or TOML file: fields of EraseConfig and ConceptRequest, or LECO's",
    )
    add(
        "--erasures",
        metavar="FILE",
        help="a JSON or YAML list of such fields, one erasure each: each gets its own file",
    )
    add(
        "--out",
        required=True,
        help=f"the {SUFFIX} file to write, never overwritten; with --erasures the folder",
    )
    add("--resume", action="store_true", help="go on from where this training was stopped")
    add("--device", help="such as cuda:1 or cpu; a GPU where there is one")
    add("--dtype", choices=DTYPES, help="that the model runs in")
    return made


def read_options(arguments: list[str] | None = None) -> list[Options]:
    """The jobs that the command line asks for: one, or with --erasures those of its file.

    Raises ValueError, naming the option or field, where one can't be run as it is.
    """
    options = vars(parser().parse_args(arguments))
    values = read_config(Path(options["config"])) if "config" in options else {}
    given: dict[str, Any] = {}
    for name, value in options.items():
        given |= dict.fromkeys(_FIELDS.get(name, (name,)), value)
    if "erasures" not in options:
        return [_job(options, values | given, _checked_out(Path(options["out"])))]
    path, folder = Path(options["erasures"]), Path(options["out"])
    jobs = [
        _job(options, values | each | given, _checked_out(folder / file_of(each), new=False))
        for each in read_erasures(path)
    ]
    outs = [job.out.name.casefold() for job in jobs]  # some disks don't tell Cat from cat
    if twice := [each for each in outs if outs.count(each) > 1]:
        raise ValueError(
            f"Got {said(path)}, in which {shortened(twice[0])} would be written twice, expected a "
            "file for each erasure. Give one of them another file, as file: another.safetensors."
        )
    return jobs


def _job(options: Mapping[str, Any], values: Mapping[str, Any], out: Path) -> Options:
    text, images = options.get("text_encoders"), options.get("keep_images")
    config = _config(values)
    if images:
        check_pictures_count(config)
    return Options(
        request=_request(values),
        config=config,
        model=Path(options["model"]),
        text_encoders=Path(text) if text else None,
        keep_images=Path(images) if images else None,
        out=out,
        device=options.get("device", ""),
        dtype=options.get("dtype", ""),
        resume=options.get("resume", False),
    )


def _request(values: Mapping[str, Any]) -> ConceptRequest:
    if "concept" not in values:
        raise ValueError(
            "Got no concept, expected what shall no longer be drawn. "
            "Name it with --concept, or as concept in the config file."
        )
    given = narrowed(values)
    return ConceptRequest(**read_fields({n: given[n] for n in OF_REQUEST & given.keys()}))


def _config(values: Mapping[str, Any]) -> EraseConfig:
    """The recipe's numbers with those given; weights, entrance and lora may be given in part."""
    given = {name: values[name] for name in OF_CONFIG & values.keys()}
    recipe = given.pop("recipe", "fast")
    base = EraseConfig.from_recipe(recipe)
    for name, kind in (("weights", LossWeights), ("entrance", EntranceConfig)):
        if name in given:
            some = check_fields(given[name], kind)
            given[name] = kind(**{**asdict(getattr(base, name)), **some})
    if "lora" in given:
        # A recipe's alpha is its rank: it follows a rank that is given.
        lora = {**asdict(base.lora), "alpha": None, **check_fields(given["lora"], LoraConfig)}
        given["lora"] = LoraConfig(**lora)
    if isinstance(given.get("attention_blocks"), list):
        given["attention_blocks"] = tuple(given["attention_blocks"])
    return EraseConfig.from_recipe(recipe, **given)


def _checked_out(path: Path, *, new: bool = True) -> Path:
    """The file to write; ValueError, before any work, where that can't be done."""
    try:
        fault = _fault_of(path, new)
    except OSError as error:
        fault = f"which can't be a file's ({error.strerror})"
    if fault:
        raise ValueError(
            f"Got --out '{said(path)}', {fault}, expected the name of a new {SUFFIX} file in a "
            "folder. Choose another."
        )
    return _with_suffix(path)


def _fault_of(path: Path, new: bool) -> str:
    """Why no file can be written there; "" for nothing. OSError where the system says so."""
    if not path.name:
        return "which is no name"
    if (length := len(os.fsencode(_with_suffix(path).name))) > LONGEST_NAME:
        return f"whose name has {length} bytes, of at most {LONGEST_NAME}"
    if path.exists() and not (path.is_file() or path.is_dir()):
        return "which is a device"
    if (path := _with_suffix(path)).exists() and new:
        return f"but {said(path)} exists"
    blocked = next((one for one in path.parents if one.exists() and not one.is_dir()), None)
    return f"but {said(blocked)} is no folder" if blocked else ""


def _with_suffix(path: Path) -> Path:
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
