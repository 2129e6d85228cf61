"""Bad inputs out of good ones by a seeded generator, and what people are told of each.

A fault is told with the number of its input. That one comes first, and others than in every run,
with `GENERATED_FROM=<number> pytest -n 0 <file> -k <test>`; `-rP` shows the counts.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from random import Random
from typing import Any
from unicodedata import category

from erase_engine.validation import UNSEEN

FIRST = int(os.environ.get("GENERATED_FROM", "0"))  # the first input's number
LONGEST, SECONDS = 600, 10  # letters of an error; of a core, for one input

# --- what is odd ---------------------------------------------------------------------------------

LETTERS = ("\0", "\x1b[31m", "\x7f", "\u202e", "\u2066", "\u200b", "\ud800", "\udcff", "\ufeff")
LETTERS += ("\n", "\t", "\r", "\u2028", "\x85", "é", "星", "😀", "{c}", "(", ")", ":1.2", '"', "\\")
LETTERS += ("'", ",", "..", "/", "<b>", "%s", "{0}", "$", "[", "*")
TEXTS = ("", " ", "\n", "nan", "true", "-1", "1e400", "None", "!?", "x" * 300, "z " * 3000)
TEXTS += ("星" * 90,)
NUMBERS = (0, -1, 1, 2, 3, 0.5, -0.0, 1e-12, 1e12, 2**31, 2**63, 2**64, -(2**70), 10**400)
NUMBERS += (float("nan"), float("inf"), -float("inf"))
OTHERS = (None, True, False, [], {}, [[]], [None], {"a": 1}, [1, 2], ["a"], {"": {}}, [[[[1]]]])
NAMES = ("", "a", "step", "__class__", "x" * 300, "\u202e", "a\nb", "\ud800", "self", "0")


def odd_text(text: str, rng: Random) -> str:
    """A text with a letter too many, cut, turned, repeated, or another one."""
    at = rng.randint(0, len(text))
    ways = (
        lambda: text[:at] + rng.choice(LETTERS) + text[at:],
        lambda: text[:at],
        lambda: text * rng.choice((2, 50, 1000)),
        lambda: text.swapcase() + " " + text,
        lambda: f"{text} and {text}",
        lambda: rng.choice(LETTERS) * rng.choice((1, 3, 200)),
        lambda: rng.choice(TEXTS),
        lambda: "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 40))),
    )
    return rng.choice(ways)()


def odd_value(value: Any, rng: Random) -> Any:
    """Another value, of its own type or of none that is expected."""
    other = rng.choice((*NUMBERS, *TEXTS, *OTHERS))
    if rng.random() < 0.4:
        return deepcopy(other)
    if isinstance(value, str):
        return odd_text(value, rng)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        near = (-value, value * 1000, value + 1, [value], f"{value:g}" if value < 1e9 else "9")
        return rng.choice((*near, *NUMBERS))
    if isinstance(value, list):
        same = (value * 600, value[::-1], value[:1] * 2, [value], dict(enumerate(value)))
        return rng.choice((*same, [*value, other]))
    if isinstance(value, dict):
        return rng.choice(([*value], [value], {**value, rng.choice(NAMES): other}, str(value)))
    return deepcopy(other)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a tree of dicts and lists stands."""
    items = dict(enumerate(value)) if isinstance(value, list) else value
    for key, each in items.items() if isinstance(items, dict) else ():
        yield (*above, key)
        yield from places(each, (*above, key))


def odd_tree(tree: Any, rng: Random) -> Any:
    """A copy of dicts and lists with one value, name or entry that is odd."""
    tree = deepcopy(tree)
    # The outermost names as often as all that is deep in a list.
    found = [*places(tree)]
    found = [where for where in found if len(where) == 1] if rng.random() < 0.5 else found
    if not found or rng.random() < 0.02:
        return odd_value(tree, rng)
    *above, last = rng.choice(found)
    inside = tree
    for key in above:
        inside = inside[key]
    way = rng.random()
    if way < 0.7:
        inside[last] = odd_value(inside[last], rng)
    elif way < 0.85 or isinstance(inside, list):
        del inside[last]
    elif way < 0.93:
        inside[rng.choice(NAMES)] = inside[last]
    else:
        inside[rng.choice((last.upper(), f"{last} ", odd_text(last, rng)))] = inside.pop(last)
    return tree


def several(change: Callable[[Any, Random], Any], rng: Random, value: Any) -> Any:
    """One to three changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = change(value, rng)
    return value


def odd_json(tree: Any, rng: Random) -> str:
    """JSON of a tree that is odd, or of a good one in odd letters."""
    if rng.random() < 0.75:
        return json.dumps(several(odd_tree, rng, tree))
    return several(odd_letters, rng, json.dumps(tree))


def odd_letters(text: str, rng: Random) -> str:
    """JSON whose text is damaged: cut, other letters, a name twice, numbers without end."""
    at = rng.randint(0, len(text))
    numbers = [*re.finditer(r"(?<=[ \[:])-?\d+(?:\.\d+)?(?=[,}\]])", text)] or [None]
    names = [*re.finditer(r'"\w+": ', text)] or [None]
    number, name = rng.choice(numbers), rng.choice(names)
    way = rng.randrange(8)
    if way == 0:
        return text[:at]
    if way == 1:
        return text[:at] + rng.choice(LETTERS) + text[at:]
    if way == 2:
        deep = ("[" * 100_000, '{"a":' * 100_000)
        return rng.choice(("", "null", "[]", "1", '""', "\ufeff" + text, *deep))
    if way in (3, 4) and number:
        value = rng.choice(("1e400", "NaN", "-Infinity", "9" * 5000, "0x10", "01", "1e-400", "1.0"))
        return text[: number.start()] + value + text[number.end() :]
    if name:
        start, value = name.start(), rng.choice(("null", "1", '"a"', "[]", "[" * 3000 + "]" * 3000))
        return f"{text[:start]}{name[0]}{value}, {text[start:]}"
    return text + text


# --- judged --------------------------------------------------------------------------------------


def fault_in(text: str) -> str:
    """What is wrong with an error's words; "" for nothing."""
    unseen = {letter for letter in text if category(letter) in UNSEEN}
    if len(text) >= LONGEST:
        return f"{len(text)} letters"
    if unseen:
        return f"unseen letters {sorted(unseen)!a}"
    if "Traceback" in text:
        return "a traceback"
    lacking = [word for word in ("Got ", "expected ") if word not in text]
    if lacking:
        return f"no {' and no '.join(lacking)}"
    if not re.search(r"expected .*?(?:\. [A-Z]|: [a-z])", text, re.DOTALL):
        return "nothing to do"
    return ""


class Late(BaseException):
    """No Exception, so that nothing takes it for a fault of a file."""


@contextmanager
def on_time() -> Iterator[None]:
    """Late for what hangs, in Python at least."""

    def late(*args: object) -> None:
        raise Late(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fault_of(
    give: Callable[[], None],
    told: type[BaseException],
    unjudged: tuple[type[BaseException], ...],
) -> tuple[bool, str]:
    """Whether an input was refused, and what is wrong with that; "" for nothing."""
    try:
        with on_time(), warnings.catch_warnings():
            warnings.simplefilter("error")
            give()
    except unjudged:
        return True, ""
    except told as error:
        fault = fault_in(str(error))
        return True, fault and f"{fault} in {type(error).__name__}: {error!s:.1000}"
    except (Exception, SystemExit, Late) as error:
        return True, f"{type(error).__name__}: {error!s:.400}"
    return False, ""


def holds(
    kind: str,
    count: int,
    make: Callable[[Random], Any],
    give: Callable[[Any], None],
    *,
    told: type[BaseException] = ValueError,
    unjudged: tuple[type[BaseException], ...] = (),
) -> None:
    """Each input is taken and works, or is refused in words that a person can act on.

    A third must be refused, and some not: else the generator has no teeth, or bites all.

    Args:
        kind: with a number the seed of an input.
        make: a bad input from a good one.
        give: AssertionError for one that is taken as something else.
        told: what is raised for people.
        unjudged: what others raise, in words that are not ours.
    """
    faults: dict[str, str] = {}  # one of each sort
    refusals, begun = 0, time.process_time()
    for number in range(FIRST, FIRST + count):
        given = make(Random(f"{kind} {number}"))
        refused, fault = fault_of(lambda given=given: give(given), told, unjudged)
        refusals += refused
        if fault:
            sort = re.sub(r"'[^']*'|\W?\d+", "", fault)[:70]
            faults.setdefault(sort, f"{kind} {number}: {given!a:.200}\n    {fault!a:.500}")
    seconds = time.process_time() - begun
    report = f"{kind}: {count} inputs, {refusals} refused, {count - refusals} not, {seconds:.1f} s"
    assert not faults, "\n".join([report, f"{len(faults)} faults", *faults.values()])
    sys.stdout.write(f"{report}\n")
    assert 1 / 3 < refusals / count < 1, report
