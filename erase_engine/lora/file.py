"""Erasure LoRAs on disk: safetensors that diffusers and ComfyUI load, with a record inside.

Keys are `transformer.<layer>.lora_A.weight` (r, in), `transformer.<layer>.lora_B.weight` (out, r)
and `transformer.<layer>.alpha`, layer being a diffusers name such as
`transformer_blocks.0.attn.add_q_proj`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..atomic_file import atomic_file

PREFIX = "transformer."
_MAX_HEADER = 100_000_000  # bytes; the safetensors library's own limit
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
        dtype: float32 loses nothing; bfloat16 halves the file. Alphas stay float32.
        overwrite: allow a file of this name to be replaced.

    Raises:
        FileExistsError: the name is taken. ValueError: `state` is no such LoRA.
    """
    path = Path(path)
    _check_layers(path, {PREFIX + key: tensor for key, tensor in state.items()})
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"Got the name {path}, which exists, expected a new one. Choose another, or overwrite."
        )
    tensors = {
        PREFIX + key: value.detach().cpu().to(torch.float32 if key.endswith(_ALPHA) else dtype)
        for key, value in sorted(state.items())
    }
    record = {key: _as_text(value) for key, value in sorted(metadata.items())}
    data = _sorted_header(save({k: v.contiguous() for k, v in tensors.items()}, record))
    with atomic_file(path) as draft:
        draft.write_bytes(data)
    return path


def load_lora(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state by canonical key, as saved, and the metadata.

    Raises:
        ValueError: the file is cut off, is not safetensors, or is not a LoRA of this form.
    """
    path = Path(path)
    header = _read_header(path)
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise _broken(path, str(error)) from error
    _check_layers(path, tensors)
    state = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    return state, header.get("__metadata__", {})


def read_metadata(path: str | Path) -> dict[str, str]:
    """Only the record in the file's header; raises ValueError as `load_lora` does."""
    return _read_header(Path(path)).get("__metadata__", {})


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, allow_nan=False)


def _sorted_header(data: bytes) -> bytes:
    """The same file with its header's keys in order: the library's own order is random."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON header; reads no more than the file has, whatever its first bytes claim."""
    total = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if total < 8 or not 2 <= size <= min(total - 8, _MAX_HEADER):
            raise _broken(path, f"its header claims {size} bytes of {total}")
        text = file.read(size)
    try:
        header = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _broken(path, "its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise _broken(path, "its header is not a table")
    return header


def _broken(path: Path, why: str) -> ValueError:
    return ValueError(
        f"Got {path.name}, which is cut off or not safetensors ({why}), expected a LoRA file. "
        "Copy or train it again."
    )


def _check_layers(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError where the tensors are not pairs of A and B under diffusers' names."""
    layers = {_layer(key) for key in tensors}
    if not tensors or None in layers:
        foreign = sorted(key for key in tensors if _layer(key) is None)[:3]
        raise ValueError(
            f"Got {path.name} with {len(tensors)} tensors, such as {foreign}, expected "
            f"'{PREFIX}<layer>{_DOWN}' and its '{_UP}'. Give a Flux LoRA in diffusers' form."
        )
    for layer in layers:
        a, b = tensors.get(f"{layer}{_DOWN}"), tensors.get(f"{layer}{_UP}")
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
            shapes = [None if each is None else tuple(each.shape) for each in (a, b)]
            raise ValueError(
                f"Got {path.name} with A, B of shapes {shapes} for {layer}, expected (r, in) and "
                "(out, r). The file is damaged or of another kind: train or download it again."
            )


def _layer(key: str) -> str | None:
    """The prefixed layer that a key belongs to; None for a key of another form."""
    for suffix in (_DOWN, _UP, _ALPHA):
        if key.startswith(PREFIX) and key.endswith(suffix):
            return key.removesuffix(suffix)
    return None
