"""The words of the tiny world: every concept, its synonyms, and how captions are put together."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

SHAPES: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "orb"),
    "square": ("box", "block"),
    "triangle": ("wedge", "pyramid"),
    "star": ("pentagram", "sparkle"),
    "cross": ("plus", "crucifix"),
    "heart": ("valentine", "love"),
    "ring": ("hoop", "donut"),
    "diamond": ("rhombus", "lozenge"),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "blue": ("azure", "cobalt"),
    "green": ("emerald", "jade"),
    "yellow": ("golden", "lemon"),
    "orange": ("tangerine", "apricot"),
    "purple": ("violet", "lilac"),
    "pink": ("rose", "magenta"),
    "cyan": ("turquoise", "aqua"),
}
STYLES: dict[str, tuple[str, ...]] = {
    "plain": (),  # what is drawn when no style is named
    "striped": ("lined", "banded"),
    "dotted": ("spotted", "speckled"),
    "checkered": ("checked", "plaid"),
    "outlined": ("hollow", "contoured"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "above": ("over", "on top of"),
    "below": ("under", "beneath"),
    "left of": ("west of", "leftward of"),
    "right of": ("east of", "rightward of"),
    "inside": ("within", "enclosed by"),
}
BACKGROUNDS: tuple[str, ...] = ("white", "black", "gray", "brown")

SHAPE_NAMES, COLOUR_NAMES = tuple(SHAPES), tuple(COLOURS)
STYLE_NAMES, RELATION_NAMES = tuple(STYLES), tuple(RELATIONS)

KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "style": {name: words for name, words in STYLES.items() if name != "plain"},
    "relation": RELATIONS,
}


def family(concept: str) -> str:
    """ "shape", "colour", "style" or "relation": which table the concept stands in."""
    for name, table in KINDS.items():
        if concept in table:
            return name
    known = ", ".join(word for table in KINDS.values() for word in table)
    raise ValueError(f"Got concept '{concept}', expected one the tiny world draws: {known}.")


def synonyms(concept: str) -> tuple[str, ...]:
    """Other words for a concept that captions use."""
    return KINDS[family(concept)][concept]


@dataclass(frozen=True)
class Thing:
    """One drawn object, by its place in the tables above."""

    shape: int
    colour: int
    style: int


@dataclass(frozen=True)
class Scene:
    """One picture: one thing, or two and how they stand; `relation` is None for one thing."""

    things: tuple[Thing, ...]
    relation: int | None
    background: int


@dataclass(frozen=True)
class Wording:
    """How captions vary: the chance of each choice."""

    synonym: float = 0.4
    no_colour: float = 0.08
    no_article: float = 0.2
    name_plain: float = 0.1
    no_background: float = 0.45
    joined_by_and: float = 0.5  # of side-by-side pairs in which the first thing is on the left
    empty: float = 0.03


def random_thing(rng: Random) -> Thing:
    """A thing with every shape and colour alike; a third of all things are plain."""
    style = 0 if rng.random() < 0.34 else rng.randrange(1, len(STYLES))
    return Thing(rng.randrange(len(SHAPES)), rng.randrange(len(COLOURS)), style)


def random_scene(rng: Random) -> Scene:
    """One thing (45%) or two that differ in shape and in colour."""
    first = random_thing(rng)
    background = rng.randrange(len(BACKGROUNDS))
    if rng.random() < 0.45:
        return Scene((first,), None, background)
    second = random_thing(rng)
    while second.shape == first.shape or second.colour == first.colour:
        second = random_thing(rng)
    return Scene((first, second), rng.randrange(len(RELATIONS)), background)


def caption(scene: Scene, rng: Random, wording: Wording = Wording()) -> str:
    """A sentence that the scene obeys; what the sentence leaves out is free."""
    if rng.random() < wording.empty:
        return ""
    phrases = [_thing_phrase(thing, rng, wording) for thing in scene.things]
    text = phrases[0]
    if scene.relation is not None:
        text = f"{phrases[0]} {_relation_word(scene.relation, rng, wording)} {phrases[1]}"
    return _with_background(_with_opening(text, rng), scene.background, rng, wording)


def _word(table: dict[str, tuple[str, ...]], index: int, rng: Random, wording: Wording) -> str:
    name = tuple(table)[index]
    others = table[name]
    return rng.choice(others) if others and rng.random() < wording.synonym else name


def _thing_phrase(thing: Thing, rng: Random, wording: Wording) -> str:
    words = []
    if thing.style or rng.random() < wording.name_plain:
        words.append(_word(STYLES, thing.style, rng, wording))
    if rng.random() >= wording.no_colour:
        words.append(_word(COLOURS, thing.colour, rng, wording))
    rng.shuffle(words)
    words.append(_word(SHAPES, thing.shape, rng, wording))
    phrase = " ".join(words)
    return phrase if rng.random() < wording.no_article else with_article(phrase)


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def _relation_word(relation: int, rng: Random, wording: Wording) -> str:
    name = RELATION_NAMES[relation]
    if name == "left of" and rng.random() < wording.joined_by_and:
        return "and"
    return _word(RELATIONS, relation, rng, wording)


def _with_opening(text: str, rng: Random) -> str:
    opening = rng.choice(("", "", "a picture of ", "an image of ", "a drawing of "))
    return opening + text


def _with_background(text: str, background: int, rng: Random, wording: Wording) -> str:
    if rng.random() < wording.no_background:
        return text
    name = BACKGROUNDS[background]
    if rng.random() < 0.7:
        return f"{text} on a {name} background"
    return f"{name} background, {text}"
