"""Widgets that several nodes have, and what is read out of them."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...erase_engine.config import check_side
from ...erase_engine.interfaces import PIXELS_PER_TOKEN

STRONGEST = 10.0  # of a LoRA, either way


def text(name: str, tooltip: str, *, multiline: bool = False, optional: bool = False) -> Any:
    """An empty field; braces in it are letters."""
    return io.String.Input(
        name,
        default="",
        multiline=multiline,
        optional=optional,
        dynamic_prompts=False,
        tooltip=tooltip,
    )


def lines(name: str, tooltip: str, *, optional: bool = False) -> Any:
    """An empty field of many lines."""
    return text(name, tooltip, multiline=True, optional=optional)


def seed(tooltip: str) -> Any:
    """With the host's control after generate, which our page begins with at "fixed"."""
    return io.Int.Input(
        "seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip=tooltip
    )


def resolution(tooltip: str, *, default: int = 512) -> Any:
    """Width and height in pixels; read it with `checked_resolution`."""
    return io.Int.Input(
        "resolution", default=default, min=64, max=2048, step=PIXELS_PER_TOKEN, tooltip=tooltip
    )


def lora_strength(name: str, tooltip: str, *, optional: bool = False) -> Any:
    """How much of a LoRA acts."""
    return io.Float.Input(
        name,
        default=1.0,
        min=-STRONGEST,
        max=STRONGEST,
        step=0.05,
        optional=optional,
        tooltip=tooltip,
    )


def advanced(widget: Any) -> Any:
    """Folded away by hosts that can; as a keyword, 0.3.75 would refuse it."""
    widget.extra_dict = {"advanced": True}
    return widget


def lines_of(field: str) -> list[str]:
    """The lines of a text field, without blanks."""
    return [line.strip() for line in field.splitlines() if line.strip()]


def checked_resolution(pixels: int) -> int:
    """The resolution widget's value; ValueError where image tokens don't cover it evenly."""
    check_side("resolution", pixels)
    return pixels
