"""Checks of values at the border, with one form of error: got, expected, do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field, fields
from difflib import get_close_matches
from reprlib import Repr
from typing import Any
from unicodedata import category

# What reading something that is not what it should be may raise, too deep a nesting included.
UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError),
    *(TypeError, ValueError),
)
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format and bidirectional characters
MOST_NAMED = 12  # fields in one message
HUGE = 1e9  # the limit of what has no other, so that infinity and NaN never pass


def within(default: float, low: float, high: float = HUGE) -> Any:
    """A dataclass field that `check_ranges` holds to [low, high]; an int default asks for ints.

    A page that shows the field reads the same limits from `field.metadata`.
    """
    return field(default=default, metadata={"low": low, "high": high})


def check_ranges(record: Any) -> None:
    """Raises ValueError, naming the field, where a `within` field of a dataclass is outside."""
    for one in fields(record):
        if one.metadata:
            whole = isinstance(one.default, int)
            check_number(one.name, getattr(record, one.name), **one.metadata, whole=whole)


def check_number(
    name: str, got: object, *, low: float, high: float = HUGE, whole: bool = False
) -> None:
    """Raises ValueError unless `got` is a number (int where `whole`) in [low, high]."""
    kinds = (int,) if whole else (int, float)
    if isinstance(got, kinds) and not isinstance(got, bool) and low <= got <= high:
        return
    kind = "a whole number" if whole else "a number"
    span = f"of at least {low:g}" if high == HUGE else f"from {low:g} to {high:g}"
    raise ValueError(f"Got {name} {told(got)}, expected {kind} {span}. Set {name} within it.")


def check_choice(name: str, got: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `got` is one of `choices`."""
    if got not in choices:
        raise ValueError(
            f"Got {name} {told(got)}, expected one of {', '.join(choices)}. Choose one of these."
        )


def check_blocks(name: str, got: object, count: int = 0) -> None:
    """Raises ValueError unless `got` is "all" or a tuple of different numbers, of `count` blocks
    where that is known.
    """
    if got == "all":
        return
    numbers = got if isinstance(got, tuple) and all(type(one) is int for one in got) else ()
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f'Got {name} {told(got)}, expected "all" or a tuple of different block numbers. Write '
            "for example (0, 1), or (-1,) for the last block."
        )
    if count and not all(-count <= one < count for one in numbers):
        raise ValueError(
            f"Got {name} {told(got)}, expected numbers from {-count} to {count - 1}: this model "
            f"has {count} such blocks. Name some of these."
        )


def check_fields(values: object, kind: type) -> dict[str, Any]:
    """`values` if it is a dict of fields of the dataclass `kind`; raises ValueError otherwise."""
    return check_names(values, [one.name for one in fields(kind)], f"for {kind.__name__}")


def check_names(values: object, known: Sequence[str], place: str) -> dict[str, Any]:
    """`values` if it is a dict of known names; ValueError otherwise, which says the place."""
    if not isinstance(values, dict):
        raise ValueError(
            f"Got {type(values).__name__} {place}, expected an object with fields "
            f"{some_of(known)}. Write some of these with their values."
        )
    unknown = [name if isinstance(name, str) else told(name) for name in values]
    unknown = [name for name in unknown if name not in known]
    if unknown:
        raise ValueError(
            f"Got {shortened(', '.join(unknown)) or told('')} {place}, expected fields out of "
            f"{some_of(known, unknown[0])}. Rename or remove it."
        )
    return values


def some_of(names: Sequence[str], like: str = "") -> str:
    """Names in a line; of many the first ones, or those most like the one that was given."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    nearest = get_close_matches(like[:80], names, MOST_NAMED, cutoff=0) if like else names
    return f"{', '.join(nearest[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields, for `json.loads`; ValueError for a name that stands twice in it."""
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{shortened(name)}' stands in it twice")
        found[name] = value
    return found


def read_json(text: str, kind: type) -> dict[str, Any]:
    """The fields of the dataclass `kind` out of JSON text; raises ValueError otherwise."""
    try:
        values = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Got text that is not JSON ({error}), expected a {kind.__name__}. "
            f"Use what {kind.__name__} itself wrote."
        ) from error
    return check_fields(values, kind)


class _Repr(Repr):
    """As Python writes values, but of what is deep, long or huge no more than a message shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 200, 200
        self.maxlist = self.maxtuple = self.maxset = self.maxdict = 30

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**100 else f"a number of {x.bit_length()} bits"

    def repr_Tensor(self, x: Any, level: int) -> str:
        """Repr finds it by the type's name."""
        return f"a tensor of {' x '.join(map(str, x.shape))}"


_REPR = _Repr()


def told(value: object) -> str:
    """A value of any kind for a message, shortened."""
    return shortened(_REPR.repr(value))


def shortened(text: str, limit: int = 80) -> str:
    """The text for a message, or its start and "..." where it is too long.

    Letters that nobody sees, or that turn others around, are spaces.
    """
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(" " if category(letter) in UNSEEN else letter for letter in short)
