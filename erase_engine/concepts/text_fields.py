"""What a person types into text fields, read: lists, prompt weights, and one concept, not two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..validation import shortened

LONGEST_PROMPT = 2000  # letters
SEPARATORS = {"synonyms": r"[,;\n]", "keep": r"\n", "prompts": r"\n"}
BETWEEN_CONCEPTS = (
    r"[,;\uff0c\u3001\uff1b\n]|\s(?:and|or|&|\+)\s|(?<=[^\W\d]{2})\s*/\s*(?=[^\W\d]{2})"
)
OWN_BRACKET = r"\\([()])"
QUOTED = r"\s*[\"“]([^\"“”]+)[\"”]\s*"
WEIGHTS_READ = "Prompt weights count for nothing here: the words were read without them."


def read_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ConceptRequest as typed, read: weights left out, and a note that says so.

    What is no text stays as it is. Raises ValueError where the concept is two things.
    """
    read = dict(values)
    if isinstance(read["concept"], str):
        read["concept"] = one_concept(read["concept"])
    names = [name for name in ("concept", "replacement", *SEPARATORS) if name in read]
    plain = {name: _plain(name, read[name]) for name in names}
    if any(plain[name] != read[name] for name in names):
        plain["notes"] = (*read.get("notes", ()), WEIGHTS_READ)
    return read | plain


def split_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `synonyms` split at commas and lines, `keep` and `prompts` at lines."""
    split = {
        name: tuple(re.split(separator, values[name]))
        for name, separator in SEPARATORS.items()
        if isinstance(values.get(name), str)
    }
    return {**values, **split}


def one_concept(text: str) -> str:
    """The text, or what stands in its quotes; ValueError where it names two things.

    Those are words with a comma, a semicolon, a line break, a slash, "and", "or", "&" or "+"
    between them. In quotes they are one: "salt and pepper".
    """
    if quoted := re.fullmatch(QUOTED, text):
        return quoted[1]
    parts = re.split(BETWEEN_CONCEPTS, text.strip(" \n,;\uff0c\u3001\uff1b"), flags=re.IGNORECASE)
    if len(parts) > 1:
        raise ValueError(
            f"Got '{shortened(text)}' as one concept, expected one thing. For several, plan each "
            "in its own Concept Plan and chain them by 'join'; other words for the same thing are "
            'synonyms. If it is one thing, put it in quotes: "salt and pepper".'
        )
    return text.strip(" \n,;\uff0c\u3001\uff1b")


def plain_prompt(text: str) -> str:
    """A prompt as ComfyUI reads it, its weights left out: "a (red star:1.2)" is "a red star".

    As there, brackets nest, and those behind a backslash are the prompt's own.
    """
    before = ""
    while before != text:
        before, text = text, _opened(text)
    return re.sub(OWN_BRACKET, r"\1", text)


def plain_wording(text: str) -> str:
    """A concept or synonym without brackets and weights of any notation: "[star:1.3]" is "star"."""
    bare = re.sub(r":\s*-?[\d.]+\s*(?=[)\]}])|(?<!\\)[()\[\]{}]", "", text)
    return re.sub(OWN_BRACKET, r"\1", bare)


def _plain(name: str, value: Any) -> Any:
    """A field, a text or a list of them, without weights."""
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(name, one) for one in value)
    if not isinstance(value, str) or len(value) > LONGEST_PROMPT:  # which a request refuses
        return value
    return plain_prompt(value) if name in ("keep", "prompts") else plain_wording(value)


def _opened(text: str) -> str:
    """The outermost brackets that have a partner opened, a weight before the second left out."""
    pieces, piece, depth = [], "", 0
    for letter in re.findall(r"\\[()]|.", text, re.DOTALL):
        if letter == "(" and depth == 0:
            pieces.append(piece)
            piece = ""
        piece += letter
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            words, _, weight = piece[1:-1].rpartition(":")
            pieces.append(words if words and _is_number(weight) else piece[1:-1])
            piece = ""
    return "".join((*pieces, piece))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
