"""Safetensors files that hold something odd, whose header lies, or that are damaged."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any

from generated import LETTERS, NAMES, odd_json, odd_text, odd_value, several

WIDTHS = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
    **{"F8_E4M3FNUZ": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "U64": 8, "BOOL": 1, "C64": 8},
    **{"F4": 0.5, "F6_E2M3": 0.75},
}
NO_DTYPES = ("F33", "\u202eF32", "x" * 900, "", 3, None)
SHAPES = ([0, 6], [4, 0], [6, 2], [2, 6], [1], [], [3], [2, 2], [4, 2, 1], [1] * 900, [8, 8])
NO_SHAPES = ([-1, -4], [2**31, 2**31, 2**31], [1.5, 2], ["2", 6], None, [6_000_000_000, 1])
NO_SPANS = ([0, 24 * 10**9], [-8, 0], [0, 2**64], [8, 0], None, [0], [1, 49])
WORDS = (float("nan"), float("inf"), -float("inf"), 3e38, 1e-45, 0.0, -1.0)
LAYER = "transformer.transformer_blocks.0.attn.add_q_proj"
KEYS = (
    *(
        "",
        ".",
        "lora_A.weight",
        "transformer.",
        "transformer..alpha",
        "a.lora_A.weight",
        "x" * 9000,
    ),
    *("lokr_w1", "a.hada_w1_a", "oft_x", "x.dora_scale", "te1_x.lora_A.weight", f"{LAYER}.alpha"),
    *(f"{LAYER}.lora_down.weight", f"{LAYER}.lora_A.default.weight", f"{LAYER}.weight", "\u202e"),
    *(f"{LAYER}\u202e.lora_A.weight", f"{LAYER}\n.lora_B.weight", f"{LAYER}{'.x' * 900}.alpha"),
)


@dataclass
class Entry:
    """A tensor of a file, and what the header says of it that is not so."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes
    lies: dict[str, Any]


@dataclass
class Whole:
    """A file apart; names may stand in it twice."""

    record: Any
    entries: list[Entry]

    @classmethod
    def of(cls, data: bytes) -> Whole:
        size = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:size])
        record = header.pop("__metadata__", {})
        entries = []
        for name, each in header.items():
            begin, end = (size + offset for offset in each["data_offsets"])
            entries.append(Entry(name, each["dtype"], each["shape"], data[begin:end], {}))
        return cls(record, entries)

    def bytes(self) -> bytes:
        header, body = [f'"__metadata__":{json.dumps(self.record)}'], b""
        for each in self.entries:
            span = [len(body), len(body) + len(each.data)]
            told = {"dtype": each.dtype, "shape": each.shape, "data_offsets": span} | each.lies
            header.append(f"{json.dumps(each.name)}:{json.dumps(told)}")
            body += each.data
        text = f"{{{','.join(header)}}}".encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + body


def odd_whole(whole: Whole, rng: Random) -> Whole:
    """One change of a tensor's name, form or numbers, or of the record."""
    if not whole.entries or rng.random() < 0.2:
        return Whole(odd_record(whole.record, rng), whole.entries)
    at = rng.randrange(len(whole.entries))
    each = whole.entries[at]
    way = rng.randrange(10)
    if way == 0:
        del whole.entries[at]
    elif way == 1:
        copy = Entry(each.name, each.dtype, each.shape, each.data, {})
        whole.entries.insert(rng.randint(0, len(whole.entries)), copy)
    elif way == 2:
        each.name = rng.choice((*KEYS, *NAMES)) if rng.random() < 0.6 else odd_text(each.name, rng)
    elif way in (3, 4):
        words = struct.pack("<f", rng.choice(WORDS))
        where = rng.randrange(max(len(each.data) // 4, 1)) * 4
        each.data = (each.data[:where] + words + each.data[where + 4 :])[: len(each.data)]
    elif way in (5, 6, 7):
        each.dtype = rng.choice(list(WIDTHS)) if way != 6 else each.dtype
        each.shape = rng.choice(SHAPES) if way != 5 else each.shape
        size = int(prod(each.shape) * WIDTHS[each.dtype])
        each.data = (each.data * size)[:size] if rng.random() < 0.5 else bytes(size)
    else:
        lie = ("dtype", NO_DTYPES), ("shape", NO_SHAPES), ("data_offsets", NO_SPANS)
        name, values = rng.choice(lie)
        each.lies[name] = rng.choice((*values, odd_value(getattr(each, name, [0, 8]), rng)))
    return whole


def odd_record(record: Any, rng: Random) -> Any:
    """Another text in the record, or something that is none."""
    if not isinstance(record, dict) or rng.random() < 0.1:
        return odd_value(record, rng)
    key = rng.choice([*record, *NAMES])
    said = record.get(key, "")
    if key == "plan" and rng.random() < 0.8:
        return {**record, key: odd_json(json.loads(said), rng)}
    as_text = isinstance(said, str) and rng.random() < 0.9
    return {**record, key: odd_text(said, rng) if as_text else odd_value(said, rng)}


def odd_file(data: bytes, rng: Random) -> bytes:
    """A safetensors file with one to three changes, of what it holds or of its bytes."""
    if rng.random() < 0.8:
        return several(odd_whole, rng, Whole.of(data)).bytes()
    return several(odd_bytes, rng, data)


def odd_bytes(data: bytes, rng: Random) -> bytes:
    """Bytes cut, changed or added, wherever it is."""
    size = int.from_bytes(data[:8], "little") % max(len(data), 1)
    at = rng.choice((rng.randrange(9), rng.randint(0, 8 + size), rng.randint(0, len(data))))
    length = rng.choice((0, 1, size + 8, 2 * len(data), 2**33, 2**62, 2**64 - 1))
    letters = rng.choice(LETTERS).encode(errors="surrogatepass")
    ways = (
        data[:at],
        data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
        data[:at] + letters + data[at:],
        data + bytes(rng.randrange(1, 100)),
        length.to_bytes(8, "little") + data[8:],
        rng.choice((b"", b"PK\3\4" + data, b"\0" * 100, b"<html>" + data, data * 2)),
        (9000).to_bytes(8, "little") + b"[" * 9000,
        (9000).to_bytes(8, "little") + b'{"a":' * 1800,
    )
    return rng.choice(ways)
