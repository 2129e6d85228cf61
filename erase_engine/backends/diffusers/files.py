"""A flow model and its text encoders from a disk, as diffusers or single files have them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...families.family import Chat, DiffusersSide, Family, PublishedFile
from ...families.registry import FAMILIES, family_of, listed, models_of
from ...interfaces import TextEncoder
from ...validation import UNREADABLE
from .chat_encoder import ChatTextEncoder
from .text_encoder import DiffusersTextEncoder

_DIFFUSERS: Any = diffusers  # both fill their names in when asked, unseen by type checkers
_TRANSFORMERS: Any = transformers
HOST = {"diffusers": diffusers.__version__}
_LOCAL: dict[str, Any] = {"local_files_only": True}
_WHOLE = "model.diffusion_model."  # before the model's weights in a whole checkpoint


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's parts are; known to exist before anything large is read.

    Args:
        model: a diffusers folder, or one file with its transformer.
        text: a folder with the family's text encoders; the model's own where it is None.

    Raises:
        ValueError: a part is not there, or the model is of no known family.
    """

    model: Path
    text: Path | None = None
    family: Family = field(init=False)

    def __post_init__(self) -> None:
        if not self.is_file and not (self.model / "transformer" / "config.json").is_file():
            raise ValueError(
                f"Got the model {self.model}, expected a diffusers folder with "
                "transformer/config.json in it, or a .safetensors file. Correct the path."
            )
        object.__setattr__(self, "family", self._family())
        folders = [name for name, _ in self._side.files.text]
        missing = [name for name in folders if not (self._text / name).is_dir()]
        if missing:
            raise ValueError(
                f"Got {self._text} without {', '.join(missing)}, expected the text encoders of "
                f"{self.family.models} beside each other, as in its diffusers folder. "
                "Name such a folder with --text-encoders."
            )
        self._chat()
        if self.is_file:
            _ = self._published

    @property
    def is_file(self) -> bool:
        """Whether the transformer is one file."""
        return self.model.is_file() and self.model.suffix == ".safetensors"

    @property
    def config(self) -> Path:
        """The transformer's config.json; a single file may have one beside it."""
        return self.model.with_name("config.json") if self.is_file else self._folder / "config.json"

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> TextEncoder:
        """The family's text encoders with their tokenizers, on the device."""
        parts = []
        with readable(self._text):
            for name, kind in self._side.files.text:
                options = _LOCAL if name.startswith("tokenizer") else {**_LOCAL, "dtype": dtype}
                load = getattr(_TRANSFORMERS, kind).from_pretrained
                parts.append(load(self._text / name, **options))
            tokenizers, encoders = parts[::2], [each.to(device) for each in parts[1::2]]
        files = self._side.files
        if chat := self._chat():
            return ChatTextEncoder(tokenizers[0], encoders[0], chat)
        return DiffusersTextEncoder(
            *zip(tokenizers, encoders, strict=True),
            words=files.words,
            pooled=files.pooled,
            shortest=files.shortest,
        )

    def transformer(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The transformer, on the device."""
        [kind] = self._side.layout.classes
        model = getattr(_DIFFUSERS, kind)
        with readable(self.model), quiet():
            if self.is_file:
                net = self._of_file(model, dtype)
            else:
                options = {"torch_dtype": dtype, "output_loading_info": True, **_LOCAL}
                net, told = model.from_pretrained(self._folder, **options)
                # Other weights than blocks' are no harm: trainers leave such behind.
                blocks = tuple(f"{each.path}." for each in self._side.layout.blocks)
                left = [key for key in told["unexpected_keys"] if key.startswith(blocks)]
                if other := [*told["missing_keys"], *left]:
                    raise ValueError(f"its config.json and its weights differ in {other[0]}")
            return net.to(device)

    def vae(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The autoencoder, on the device; ValueError where there is none."""
        folder = self.check_vae()
        with readable(folder):
            model = _DIFFUSERS.AutoencoderKL.from_pretrained(folder, torch_dtype=dtype, **_LOCAL)
        return model.to(device)

    def check_vae(self) -> Path:
        """Its folder, beside the transformer or the text encoders; ValueError for none."""
        if not self._side.files.pictures:
            raise ValueError(
                f"Got pictures to keep for {self.family.name}, whose autoencoder this command does "
                "not know, expected none. Leave --keep-images out: the model then draws what is to "
                "be kept."
            )
        places = [root / "vae" for root in (self.model, self._text)]
        found = next((each for each in places if (each / "config.json").is_file()), None)
        if found is None:
            raise ValueError(
                f"Got {self._text} without vae, expected the autoencoder of {self.family.models} "
                "in it, which encodes the pictures to keep. Add it, or leave --keep-images out: "
                "the model then draws what is to be kept."
            )
        return found

    def scheduler(self, net: Any) -> Any:
        """The folder's; for a single file what the family's models have."""
        folder, model = self.model / "scheduler", _DIFFUSERS.FlowMatchEulerDiscreteScheduler
        if not folder.is_dir():
            return model(**self._published.scheduler(net))
        with readable(folder):
            return model.from_pretrained(folder, **_LOCAL)

    @property
    def _side(self) -> DiffusersSide:
        side = self.family.diffusers
        assert side is not None  # those without it are refused by `family_of`
        return side

    @property
    def _published(self) -> PublishedFile:
        """What is known of the family's single files; ValueError where nothing is."""
        if self._side.files.published is None:
            raise ValueError(
                f"Got {self.model}, expected a diffusers folder: of {self.family.name} the command "
                "reads no single files. Give the folder that holds transformer and scheduler."
            )
        return self._side.files.published

    @property
    def _text(self) -> Path:
        return self.text or (self.model.parent if self.is_file else self.model)

    @property
    def _folder(self) -> Path:
        return self.model / "transformer"

    def _chat(self) -> Chat | None:
        """How the language model there is asked; ValueError for one that the family has no chat of.

        None where the family's encoders are no language models.
        """
        chats, path = self._side.files.chats, self._text / "text_encoder" / "config.json"
        if not chats:
            return None
        with readable(path):
            kind = json.loads(path.read_text()).get("model_type")
        if found := next((chat for chat in chats if chat.model == kind), None):
            return found
        raise ValueError(
            f"Got a text encoder of kind {kind} in {self._text}, expected "
            f"{listed([chat.model for chat in chats])}, which this command reads "
            f"{self.family.name} prompts with. Train other models of the family in ComfyUI."
        )

    def _family(self) -> Family:
        """By config.json; for a file without one by the names of its weights."""
        if self.config.is_file():
            with readable(self.config):
                kind = str(json.loads(self.config.read_text()).get("_class_name"))
            try:
                return family_of(kind, "diffusers")
            except ValueError as error:
                raise ValueError(f"{self.config}: {error}") from None
        with readable(self.model), safe_open(self.model, "pt") as file:
            names = {name.removeprefix(_WHOLE) for name in file.keys()}  # noqa: SIM118
        known = (one for one, each in _read_singly() if {each.marker, each.own} & names)
        return next(known, FAMILIES[0])  # whatever its loading will say

    def _of_file(self, model: Any, dtype: torch.dtype) -> Any:
        """From the published layout or diffusers' own; a config.json beside it is respected."""
        state, known = load_file(self.model), self._published
        if known.own not in state:
            state = published_weights(state, known.converter)
        sizes = (
            json.loads(self.config.read_text()) if self.config.is_file() else known.config(state)
        )
        with torch.device("meta"):
            net = model.from_config(sizes)
        net.load_state_dict({key: value.to(dtype) for key, value in state.items()}, assign=True)
        return net.train(False)


def _read_singly() -> Iterator[tuple[Family, PublishedFile]]:
    """Families whose single files are read, with what is known of these."""
    for family in FAMILIES:
        if family.diffusers and family.diffusers.files.published:
            yield family, family.diffusers.files.published


def published_weights(published: dict[str, Tensor], converter: str) -> dict[str, Tensor]:
    """A transformer's weights under diffusers' names; what else a checkpoint holds is left out.

    Raises ValueError, naming some, where weights are missing or of another model.
    """
    whole = any(key.startswith(_WHOLE) for key in published)
    given = {
        # Newer hosts call the norms' scales weights.
        key.removeprefix(_WHOLE).replace("_norm.weight", "_norm.scale"): value
        for key, value in published.items()
        if key.startswith(_WHOLE) or not whole
    }
    found, missing = {}, []
    try:
        found = getattr(single_file_utils, converter)(given)  # takes what it knows out of `given`
    except KeyError as error:
        missing = [error.args[0]]
    except IndexError:
        missing = ["any blocks"]
    if missing or given:
        read = "; ".join(family.models for family, _ in _read_singly())
        raise ValueError(
            f"Got a file with {sorted(given)[:2]} and without {missing}, expected the layers of "
            f"{read}. Give the file of its transformer, not quantized; of other models give the "
            "diffusers folder that holds transformer and scheduler."
        )
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """For building a net: diffusers' own classes warn about what they are made of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises ValueError, naming the path, where files are missing, cut off or of another model."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except ImportError as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"Got {path}, which asks for a package that is not there ({why}), expected what the "
            "headless extra brings. Install the package as well, or change that setting."
        ) from error
    except (*UNREADABLE, SafetensorError) as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"Got {path}, which can't be read as {models_of('diffusers')} ({why}), expected "
            "complete files of it. Copy or download them again."
        ) from error
