"""Checks of values at the border, with one form of error: got, expected, do."""

from __future__ import annotations

import json
from dataclasses import field, fields
from typing import Any
from unicodedata import category

# What reading something that is not what it should be may raise, too deep a nesting included.
UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError),
    *(TypeError, ValueError),
)
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format and bidirectional characters
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
    raise ValueError(
        f"Got {name} {shortened(repr(got))}, expected {kind} {span}. Set {name} within it."
    )


def check_choice(name: str, got: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `got` is one of `choices`."""
    if got not in choices:
        raise ValueError(
            f"Got {name} {shortened(repr(got))}, expected one of {', '.join(choices)}. "
            "Choose one of these."
        )


def check_fields(values: object, kind: type) -> dict[str, Any]:
    """`values` if it is a dict of fields of the dataclass `kind`; raises ValueError otherwise."""
    known = [one.name for one in fields(kind)]
    if not isinstance(values, dict):
        raise ValueError(
            f"Got {type(values).__name__} for {kind.__name__}, expected an object with fields "
            f"{', '.join(known)}. Use what {kind.__name__} itself wrote."
        )
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(
            f"Got {shortened(', '.join(unknown))} for {kind.__name__}, expected fields out of "
            f"{', '.join(known)}. Rename or remove it."
        )
    return values


def read_json(text: str, kind: type) -> dict[str, Any]:
    """The fields of the dataclass `kind` out of JSON text; raises ValueError otherwise."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Got text that is not JSON ({error}), expected a {kind.__name__}. "
            f"Use what {kind.__name__} itself wrote."
        ) from error
    return check_fields(values, kind)


def shortened(text: str, limit: int = 80) -> str:
    """The text for a message, or its start and "..." where it is too long.

    Letters that nobody sees, or that turn others around, are spaces.
    """
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(" " if category(letter) in UNSEEN else letter for letter in short)
