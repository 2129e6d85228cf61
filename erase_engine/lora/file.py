"""Erasure LoRAs on disk: safetensors that diffusers and ComfyUI load, with a record inside.

Keys are `transformer.<layer>.lora_A.weight` (r, in) and `transformer.<layer>.lora_B.weight`
(out, r), layer being a diffusers name such as `transformer_blocks.0.attn.add_q_proj`; in families
whose loaders want it, `diffusion_model.` stands in front. It also does before ComfyUI's own names
of layers, which are written for its bypass loader and not read. The strength
alpha / r is inside B: diffusers ignores `transformer.<layer>.alpha` for some families, and refuses
it for others. Files that have one are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import pad

from ..atomic_file import atomic_file, new_file, remove_abandoned
from ..families.registry import prefix_for
from ..validation import HUGE, shortened, told
from .container import called, opened
from .dialects import ALPHA, DOWN, HOSTS_OWN, OURS, UP, canonical_key, of_text_encoder, other_kind
from .metadata import SPEC

TAKEN = "Got the name {}, which exists, expected a new one. Choose another, or overwrite."
# What numbers are, as files name them; packed ones of 4 and 6 bits are no LoRA's.
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
WHOLE = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
NO_NUMBERS = (torch.bool, torch.complex32, torch.complex64, torch.complex128)
KINDS = {**dict.fromkeys(FLOATS, "float"), **dict.fromkeys(WHOLE, "whole")}


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
        state: canonical keys, as `LoraSet.state_dict` gives them, or as `in_whole_layers` does.
        metadata: strings, or values that JSON can hold (stored as JSON).
        dtype: float32 loses nothing; bfloat16 halves the file.
        overwrite: allow a file of this name to be replaced.

    Raises:
        FileExistsError: the name is taken. ValueError: `state` is no such LoRA.
    """
    path = Path(path)
    lora_state(called(path), {OURS + key.removeprefix(HOSTS_OWN): state[key] for key in state})
    if path.exists() and not overwrite:
        raise FileExistsError(TAKEN.format(shortened(str(path), 200)))
    tensors = {
        key: value.detach().cpu().to(dtype)
        for key, value in sorted(prefixed(folded(state)).items())
    }
    record = {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True, allow_nan=False)
        for key, value in metadata.items()
    }
    whole = {key: value.contiguous() for key, value in tensors.items()}
    data = _bytes_of(whole, record)
    remove_abandoned(path.parent)
    try:
        with (atomic_file if overwrite else new_file)(path) as draft:
            draft.write_bytes(data)
    except FileExistsError as error:  # another process has taken the name meanwhile
        raise FileExistsError(TAKEN.format(shortened(str(path), 200))) from error
    except OSError as error:
        raise OSError(
            f"Got no way to write {shortened(str(path), 200)} ({shortened(str(error), 200)}), "
            f"expected a folder with room for {len(data):,} bytes. Make room and run this again: a "
            "training goes on where it was."
        ) from error
    return path


@dataclass(frozen=True)
class LoraFile:
    """What is read of a LoRA file."""

    state: dict[str, Tensor]  # by canonical key, as saved
    record: dict[str, str]  # the metadata
    left_out: int  # tensors of text encoders, which are not read


def load_lora(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state by canonical key, as saved, and the metadata; raises as `read_lora`."""
    found = read_lora(path)
    return found.state, found.record


def read_lora(path: str | Path) -> LoraFile:
    """A LoRA of any of the field's names for diffusers' layers, and its metadata, in one reading.

    Names and shapes are looked at before any tensor is read: a whole checkpoint is refused at once.

    Raises:
        ValueError: the file is cut off, is not safetensors, or is not a LoRA of this form.
    """
    name = called(path)
    with opened(path) as file:
        parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        headers = {
            key: Header(tuple(part.get_shape()), KINDS.get(part.get_dtype(), ""))
            for key, part in parts.items()
        }
        names = _canonical_names(name, headers)
        # The library's tensors are parts of the file, which others may change: copies are not.
        state = {names[key]: file.get_tensor(key).clone() for key in names}
        _check_values(name, state)
        return LoraFile(state, file.metadata() or {}, len(headers) - len(names))


def lora_state(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA that is in memory already, by canonical key; checked as a file is."""
    kinds = {
        key: "float" if one.is_floating_point() else "" if one.dtype in NO_NUMBERS else "whole"
        for key, one in tensors.items()
    }
    headers = {key: Header(tuple(one.shape), kinds[key]) for key, one in tensors.items()}
    state = {new: tensors[key] for key, new in _canonical_names(name, headers).items()}
    _check_values(name, state)
    return state


def prefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Canonical keys as files have them; the host's own names have their prefix."""
    hosts = {key: value for key, value in state.items() if key.startswith(HOSTS_OWN)}
    canonical = {key: value for key, value in state.items() if key not in hosts}
    prefix = prefix_for({key.rsplit(".lora_", 1)[0].removesuffix(ALPHA) for key in canonical})
    return hosts | {prefix + key: value for key, value in canonical.items()}


def read_metadata(path: str | Path) -> dict[str, str]:
    """Only the record in the file's header; raises ValueError as `load_lora` does."""
    with opened(path) as file:
        return file.metadata() or {}


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same LoRA without alphas: B has been multiplied by alpha / r."""
    folded = {key: value for key, value in state.items() if not key.endswith(ALPHA)}
    for key, alpha in state.items():
        layer = key.removesuffix(ALPHA)
        if layer != key:
            folded[layer + UP] = state[layer + UP] * (alpha.item() / len(state[layer + DOWN]))
    return folded


def of_one_rank(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same LoRA without alphas, smaller layers filled up with zeros.

    Other trainers give each layer a rank of its own, and merged files have such layers, too.
    """
    filled = folded(state)
    layers = [key.removesuffix(DOWN) for key in filled if key.endswith(DOWN)]
    rank = max(len(filled[layer + DOWN]) for layer in layers)
    for layer in layers:
        missing = rank - len(filled[layer + DOWN])
        filled[layer + DOWN] = pad(filled[layer + DOWN], (0, 0, 0, missing))
        filled[layer + UP] = pad(filled[layer + UP], (0, missing))
    return filled


def _sizes_and_hash(tensors: Mapping[str, Tensor], body: bytes) -> dict[str, str]:
    """The largest rank, and modelspec's hash, of all that stands behind the header."""
    rank = str(max(len(each) for key, each in tensors.items() if key.endswith(DOWN)))
    return {
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "modelspec.hash_sha256": f"0x{hashlib.sha256(body).hexdigest()}",
    }


def _bytes_of(tensors: dict[str, Tensor], record: dict[str, str]) -> bytes:
    """A file, its header's keys in order: the library's own order is random.

    A record with modelspec's version gets what it says of the tensors as well.
    """
    data = save(tensors, record)
    size = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:size]), data[size:]
    if SPEC in record:
        header["__metadata__"] |= _sizes_and_hash(tensors, body)
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + body


class Header(NamedTuple):
    """What is known of a tensor before it is read: its shape, and what its numbers are."""

    shape: tuple[int, ...]
    kind: str  # "float", "whole", or "" for others


def _canonical_names(name: str, headers: Mapping[str, Header]) -> dict[str, str]:
    """A file's keys and the canonical ones, without text encoders'; ValueError for other files."""
    if kind := other_kind(headers):
        raise ValueError(
            f"Got {name}, which is a {kind} file, expected a LoRA of A and B alone. Load it with "
            "Load LoRA, or train a LoRA."
        )
    names = {key: canonical_key(key) for key in headers if not of_text_encoder(key)}
    found = {key: new for key, new in names.items() if new}
    if not names or len(found) < len(names):
        foreign = [shortened(key) for key in sorted(set(names or headers) - set(found))[:3]]
        raise ValueError(
            f"Got {name} with {len(headers)} tensors, such as {foreign}, expected "
            f"'{OURS}<layer>{DOWN}' and its '{UP}'. Give a LoRA in diffusers' form."
        )
    if len(set(found.values())) < len(found):
        raise ValueError(
            f"Got {name} with two tensors for one layer under different names, expected one. "
            "Train or download it again."
        )
    _check_layers(name, {new: headers[key] for key, new in found.items()})
    return found


def _check_layers(name: str, headers: Mapping[str, Header]) -> None:
    """Raises ValueError where canonical keys are not pairs of A and B, and alphas, of numbers."""
    for layer in {key.rsplit(".lora_", 1)[0].removesuffix(ALPHA) for key in headers}:
        a, b, alpha = (headers.get(layer + part) for part in (DOWN, UP, ALPHA))
        shapes = [each and each.shape for each in (a, b)]
        sizes = (*a.shape, *b.shape) if a and b else ()  # (r, in, out, r)
        if len(shapes[0] or ()) != 2 or len(sizes) != 4 or sizes[0] != sizes[3] or 0 in sizes:
            raise ValueError(
                f"Got {name} with A, B of shapes {told(shapes)} for {shortened(layer)}, expected "
                "(r, in) and (out, r), none of them 0. The file is damaged or of another kind: "
                "train or download it again."
            )
        floats = all(each.kind == "float" for each in (a, b) if each)
        if not floats or (alpha and (prod(alpha.shape) != 1 or not alpha.kind)):
            raise ValueError(
                f"Got {name} with A, B or alpha in {shortened(layer)} that are no real numbers, or "
                "more than one alpha, expected floats and one alpha. Train or download it again."
            )


def _check_values(name: str, state: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a number is not finite, or so large that its picture is not."""
    for key, tensor in state.items():
        largest = float(tensor.detach().float().abs().max())
        if not largest <= HUGE:
            raise ValueError(
                f"Got {name} with a weight of {largest:g} in {shortened(key)}, expected numbers "
                f"that are finite and below {HUGE:g}. The file is damaged, or its training failed: "
                "train or download it again."
            )
