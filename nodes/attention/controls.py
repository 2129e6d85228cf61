"""What to look at in a model's attention: the widgets, what they mean, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ...erase_engine.attention.maps import AttentionMaps
from ...erase_engine.attention.query import VIEWS, AttentionQuery, default_blocks, located_words
from ...erase_engine.backends.comfy.model import supported_family
from ...erase_engine.concepts.grammar import contains, words_of
from ...erase_engine.interfaces import Conditioning
from ...erase_engine.validation import check_choice, shortened
from ..host.encode import encoder_for, ordinary_tensors
from ..host.widgets import advanced, lines, lines_of, text
from .heatmap import Sheet, draw_sheet
from .payload import page_maps

Found = Mapping[str, AttentionMaps]  # by model: "before", "after"
UNITS = {"training signal": "a place's attention", "saliency": "a place, among the words compared"}


# --- widgets -----------------------------------------------------------------------------------


def words_input() -> Any:
    return lines("words", "Words of the prompt to look at, one a line. Empty: every word.")


def view_inputs() -> list[Any]:
    """Optional, so that workflows from before they came still run."""
    return [
        io.Combo.Input(
            "view",
            options=list(VIEWS),
            default=VIEWS[0],
            optional=True,
            tooltip="training signal: the attention on the word, which the recipe paper pushes "
            "down. saliency: which of the words a place belongs to, from what attention puts out; "
            "sharper.",
        ),
        advanced(
            lines(
                "contrast",
                "For saliency: words of the prompt to hold each word against, one a line, at "
                "least two. Empty: the words outside its own phrase.",
                optional=True,
            )
        ),
        advanced(
            text(
                "blocks",
                "Blocks to look into, such as 9-18; single ones are counted after the double ones. "
                "Empty: all double ones for the training signal, the model's middle for saliency.",
                optional=True,
            )
        ),
    ]


def maps_outputs() -> list[Any]:
    return [
        io.Image.Output("IMAGE", tooltip="The sheet of maps."),
        io.String.Output("shares", tooltip="Each word's mean over the picture, in words."),
    ]


# --- what they mean ----------------------------------------------------------------------------


def query_for(
    clip: Any,
    model: Any,
    prompt: str,
    *,
    words: str,
    view: Any = VIEWS[0],
    contrast: str = "",
    blocks: str = "",
) -> tuple[Conditioning, AttentionQuery]:
    """The prompt and no words as the model reads them, and what to look at.

    ValueError names a widget.
    """
    check_choice("view", view, VIEWS)
    layout, net = supported_family(model).comfy, model.model.diffusion_model
    joint, count = layout.joint_blocks(net), sum(layout.counts(net))
    chosen = _blocks(blocks, count) or default_blocks(view, joint, count)
    names, others = _words_in(prompt, "words", words), _words_in(prompt, "contrast", contrast)
    with ordinary_tensors():
        encoder = encoder_for(clip, model)
        found = located_words(
            encoder, prompt, names or words_of(prompt), view=view, contrast=others
        )
        return encoder.encode([prompt, ""]), AttentionQuery(found, view, chosen)


def _words_in(prompt: str, field: str, text: str) -> list[str]:
    """A field's lines; ValueError for one that is not in the prompt, or a prompt without words."""
    if not words_of(prompt):
        raise ValueError(
            f"Got the prompt '{shortened(prompt)}', expected at least one word. "
            "Write what shall be drawn."
        )
    names = list(dict.fromkeys(lines_of(text)))
    for name in names:
        if not contains(prompt, [name]):
            raise ValueError(
                f"Got '{shortened(name)}' in {field}, which is not in the prompt "
                f"'{shortened(prompt)}', expected words of it. Write words as they stand there, or "
                f"leave {field} empty."
            )
    return names


def _blocks(text: str, count: int) -> tuple[int, ...]:
    """Block numbers out of "3, 9-18"; ValueError for what is no block of the model."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in re.split(r"[,\s]+", text.strip())]
    spans = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if text.strip() and not (all(parts) and all(a <= b < count for a, b in spans)):
        raise ValueError(
            f"Got blocks '{shortened(text)}', expected numbers from 0 to {count - 1}, such as '0' "
            f"or '0-{count - 1}'. Name blocks that this model has, or leave it empty."
        )
    return tuple(sorted({number for a, b in spans for number in range(a, b + 1)}))


# --- how it is shown ---------------------------------------------------------------------------


def shown_maps(
    node: Any,
    look: AttentionQuery,
    found: Found,
    pictures: Mapping[str, Tensor],
    prompt: str,
    *,
    note: str = "",
) -> io.NodeOutput:
    """A node's output: the sheet, the numbers, and what the page explores.

    Args:
        pictures: (1, H, W, 3) for each model, or none.
        note: what else there is to say of the pictures.
    """
    names = [word.name for word in look.words]
    maps = {name: each.maps for name, each in found.items()}
    heading = f"{prompt} ({note})" if note else prompt
    image = draw_sheet(Sheet(heading, names, maps, dict(pictures), UNITS[look.view]))
    shown = {
        **ui.PreviewImage(image, cls=node).as_dict(),
        "eraseanything_maps": [{**page_maps(look, found, pictures, prompt), "note": note}],
    }
    return io.NodeOutput(image, _figures(look, found), ui=shown)


def _figures(look: AttentionQuery, found: Found) -> str:
    """A line for each word: its mean, and for saliency what it was held against."""
    rows = []
    for index, word in enumerate(look.words):
        means = [f"{when} {maps.means[index]:.2%}" for when, maps in found.items()]
        against = ", ".join(other.name for other in word.contrast)
        rows.append(f"{word.name}: {', '.join(means)}{against and f' (against {against})'}")
    return "\n".join(rows)
