"""Erasure LoRAs on disk: safetensors that diffusers and ComfyUI load, with a record inside.

Keys are `transformer.<layer>.lora_A.weight` (r, in) and `transformer.<layer>.lora_B.weight`
(out, r), layer being a diffusers name such as `transformer_blocks.0.attn.add_q_proj`; in families
whose loaders want it, `diffusion_model.` stands in front. The strength
alpha / r is inside B: diffusers ignores `transformer.<layer>.alpha` for some families, and refuses
it for others. Files that have one are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..atomic_file import atomic_file, new_file
from ..families.registry import prefix_for

PREFIXES = ("transformer.", "diffusion_model.")  # the first is what most families have
TAKEN = "Got the name {}, which exists, expected a new one. Choose another, or overwrite."
_DOWN, _UP, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"


def save_lora(
    path: str | Path,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
) -> Path:
    """Writes a LoRA under its name only once it is complete; the same input gives the same bytes.

    Args:
        state: canonical keys, as `LoraSet.state_dict` gives them.
        metadata: strings, or values that JSON can hold (stored as JSON).
        dtype: float32 loses nothing; bfloat16 halves the file.
        overwrite: allow a file of this name to be replaced.

    Raises:
        FileExistsError: the name is taken. ValueError: `state` is no such LoRA.
    """
    path = Path(path)
    _check_layers(path, {key: tuple(tensor.shape) for key, tensor in prefixed(state).items()})
    if path.exists() and not overwrite:
        raise FileExistsError(TAKEN.format(path))
    tensors = {
        key: value.detach().cpu().to(dtype)
        for key, value in sorted(prefixed(_folded(state)).items())
    }
    record = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True, allow_nan=False)
        for key, value in metadata.items()
    }
    data = _sorted_header(save({k: v.contiguous() for k, v in tensors.items()}, record))
    try:
        with (atomic_file if overwrite else new_file)(path) as draft:
            draft.write_bytes(data)
    except FileExistsError as error:  # another process has taken the name meanwhile
        raise FileExistsError(TAKEN.format(path)) from error
    except OSError as error:
        raise OSError(
            f"Got no way to write {path} ({error}), expected a folder with room for {len(data):,} "
            "bytes. Make room and run this again: a training goes on where it was."
        ) from error
    return path


def load_lora(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state by canonical key, as saved, and the metadata.

    Names and shapes are looked at before any tensor is read: a whole checkpoint is refused at once.

    Raises:
        ValueError: the file is cut off, is not safetensors, or is not a LoRA of this form.
    """
    with _opened(path) as file:
        keys = list(file.keys())
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
        _check_layers(Path(path), shapes)
        # The library's tensors are parts of the file, which others may change: copies are not.
        state = canonical({key: file.get_tensor(key).clone() for key in keys})
        return state, file.metadata() or {}


def prefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical keys as files have them."""
    layers = {key.rsplit(".lora_", 1)[0].removesuffix(_ALPHA) for key in state}
    prefix = prefix_for(layers)
    return {prefix + key: value for key, value in state.items()}


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keys of a file without what stands before the layers."""
    return {key.removeprefix(_prefix(key)): value for key, value in state.items()}


def read_metadata(path: str | Path) -> dict[str, str]:
    """Only the record in the file's header; raises ValueError as `load_lora` does."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The file behind its header, which the library checks against the file's size."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"Got {Path(path).name}, which is cut off or not safetensors ({error}), expected a "
            "LoRA file. Copy or train it again."
        ) from error


def _folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same LoRA without alphas: B has been multiplied by alpha / r."""
    folded = {key: value for key, value in state.items() if not key.endswith(_ALPHA)}
    for key, alpha in state.items():
        layer = key.removesuffix(_ALPHA)
        if layer != key:
            folded[layer + _UP] = state[layer + _UP] * (alpha / len(state[layer + _DOWN]))
    return folded


def _sorted_header(data: bytes) -> bytes:
    """The same file with its header's keys in order: the library's own order is random."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _check_layers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError where the tensors are not pairs of A and B under diffusers' names."""
    layers = {_layer(key) for key in shapes}
    if not shapes or None in layers:
        foreign = sorted(key for key in shapes if _layer(key) is None)[:3]
        raise ValueError(
            f"Got {path.name} with {len(shapes)} tensors, such as {foreign}, expected "
            f"'{PREFIXES[0]}<layer>{_DOWN}' and its '{_UP}'. Give a LoRA in diffusers' form."
        )
    for layer in layers:
        a, b = shapes.get(f"{layer}{_DOWN}"), shapes.get(f"{layer}{_UP}")
        if a is None or b is None or len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise ValueError(
                f"Got {path.name} with A, B of shapes {[a, b]} for {layer}, expected (r, in) and "
                "(out, r). The file is damaged or of another kind: train or download it again."
            )


def _layer(key: str) -> str | None:
    """The prefixed layer that a key belongs to; None for a key of another form."""
    prefix = _prefix(key)
    suffix = next((each for each in (_DOWN, _UP, _ALPHA) if key.endswith(each)), None)
    if not prefix or suffix is None:
        return None
    layer = key.removesuffix(suffix)
    # Of the host's own names only those that a family's files have.
    ours = prefix == PREFIXES[0] or prefix_for({layer.removeprefix(prefix)}) == prefix
    return layer if ours else None


def _prefix(key: str) -> str:
    """What stands before a key's layer; "" for nothing that is known."""
    return next((each for each in PREFIXES if key.startswith(each)), "")
