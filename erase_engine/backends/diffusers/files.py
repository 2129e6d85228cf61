"""Flux and its text encoders from a disk, as diffusers or as single files have them; no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..flux_names import to_diffusers
from .text_encoder import DiffusersTextEncoder

_DIFFUSERS: Any = diffusers  # both fill their names in when asked, unseen by type checkers
_TRANSFORMERS: Any = transformers
HOST = {"diffusers": diffusers.__version__}
TEXT_PARTS = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
_LOCAL: dict[str, Any] = {"local_files_only": True}


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's parts are; known to exist before anything large is read.

    Args:
        model: a diffusers folder of FLUX.1, or one file with its transformer.
        text: a folder with `TEXT_PARTS`; the model's own where it is None.

    Raises:
        ValueError: a part is not there.
    """

    model: Path
    text: Path | None = None

    def __post_init__(self) -> None:
        if not self.is_file and not (self.model / "transformer" / "config.json").is_file():
            raise ValueError(
                f"Got the model {self.model}, expected a diffusers folder with "
                "transformer/config.json in it, or a .safetensors file. Correct the path."
            )
        missing = [name for name in TEXT_PARTS if not (self._text / name).is_dir()]
        if missing:
            raise ValueError(
                f"Got {self._text} without {', '.join(missing)}, expected the text encoders of "
                "FLUX.1 beside each other, as in its diffusers folder. "
                "Name such a folder with --text-encoders."
            )

    @property
    def is_file(self) -> bool:
        """Whether the transformer is one file."""
        return self.model.is_file() and self.model.suffix == ".safetensors"

    @property
    def _text(self) -> Path:
        return self.text or (self.model.parent if self.is_file else self.model)

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> DiffusersTextEncoder:
        """CLIP-L and T5 with their tokenizers, on the device."""
        folders = [self._text / name for name in TEXT_PARTS]
        with _readable(self._text):
            clip_tokenizer = _TRANSFORMERS.CLIPTokenizer.from_pretrained(folders[0], **_LOCAL)
            clip = _TRANSFORMERS.CLIPTextModel.from_pretrained(folders[1], dtype=dtype, **_LOCAL)
            t5_tokenizer = _TRANSFORMERS.T5TokenizerFast.from_pretrained(folders[2], **_LOCAL)
            t5 = _TRANSFORMERS.T5EncoderModel.from_pretrained(folders[3], dtype=dtype, **_LOCAL)
        return DiffusersTextEncoder(
            (clip_tokenizer, clip.to(device)), (t5_tokenizer, t5.to(device))
        )

    def transformer(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The FluxTransformer2DModel, on the device."""
        load = _transformer_of_file if self.is_file else _transformer_of_folder
        with _readable(self.model):
            net = load(self.model, dtype)
        return net.to(device)

    def scheduler(self, net: Any) -> Any:
        """The folder's; for a single file that of FLUX.1 [dev] or, without guidance, [schnell]."""
        folder = self.model / "scheduler"
        if folder.is_dir():
            with _readable(folder):
                return _DIFFUSERS.FlowMatchEulerDiscreteScheduler.from_pretrained(folder, **_LOCAL)
        shifted = bool(net.config.guidance_embeds)
        return _DIFFUSERS.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=shifted)


def _transformer_of_folder(folder: Path, dtype: torch.dtype) -> Any:
    _check_kind(folder / "transformer" / "config.json")
    return _DIFFUSERS.FluxTransformer2DModel.from_pretrained(
        folder / "transformer", torch_dtype=dtype, **_LOCAL
    )


def _transformer_of_file(path: Path, dtype: torch.dtype) -> Any:
    """From the published layout or diffusers' own; a config.json beside the file is respected."""
    state = load_file(path)
    state = state if "x_embedder.weight" in state else to_diffusers(state)
    with torch.device("meta"):
        net = _DIFFUSERS.FluxTransformer2DModel.from_config(_config_of_file(path, state))
    net.load_state_dict({key: value.to(dtype) for key, value in state.items()}, assign=True)
    return net.train(False)


def _config_of_file(path: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    """What the file's own config.json says, else FLUX.1 with as many blocks as there are."""
    beside = path.with_name("config.json")
    if beside.is_file():
        _check_kind(beside)
        return json.loads(beside.read_text())
    return {
        "num_layers": _blocks(state, "transformer_blocks"),
        "num_single_layers": _blocks(state, "single_transformer_blocks"),
        "guidance_embeds": any(".guidance_embedder." in key for key in state),
    }


def _blocks(state: dict[str, Tensor], kind: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{kind}.")})


def _check_kind(config: Path) -> None:
    """Raises ValueError where a config.json is of another kind of model."""
    kind = json.loads(config.read_text()).get("_class_name")
    if kind != "FluxTransformer2DModel":
        raise ValueError(
            f"Got {config} of a {kind}, expected FluxTransformer2DModel. "
            "Give FLUX.1 [dev] or [schnell]."
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises ValueError, naming the path, where files are missing, cut off or of another model."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, json.JSONDecodeError) as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"Got {path}, which can't be read as FLUX.1 ({why}), expected complete files of it. "
            "Copy or download them again."
        ) from error
