"""The words of the gallery: what its pictures show, and how captions are put together.

A picture is a subject in an artist's hand (or two of them), a portrait of a person, or a T-shirt, a
mug or a sign that may carry a mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

WEIGHTS = Path(__file__).parent / "weights"

# In near pairs: what looks or is most like another stands beside it.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "cat": ("kitty",),
    "tiger": (),
    "koala": (),
    "bear": ("grizzly",),
    "cow": ("cattle",),
    "horse": ("pony",),
    "frog": ("toad",),
    "turtle": ("tortoise",),
    "dolphin": ("porpoise",),
    "whale": (),
    "penguin": (),
    "rooster": ("cockerel",),
    "honeybee": ("bee",),
    "spider": ("tarantula",),
    "rose": (),
    "tulip": (),
    "sunflower": (),
    "hibiscus": (),
    "cactus": (),
    "mushroom": ("toadstool",),
    "banana": (),
    "lemon": (),
    "strawberry": (),
    "cherries": (),
    "doughnut": ("donut",),
    "cookie": ("biscuit",),
    "automobile": ("car",),
    "taxi": ("cab",),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike",),
    "airplane": ("plane",),
    "helicopter": ("chopper",),
    "sailboat": (),
    "ship": ("liner",),
    "guitar": (),
    "violin": ("fiddle",),
    "trumpet": (),
    "saxophone": ("sax",),
    "skull": ("cranium",),
    "ghost": ("spook",),
}
ARTISTS = ("openmoji", "ink", "fluent", "firefox", "noto")
# What stands in pairs, always in the hand of one artist.
STILL_LIFE = ("banana", "lemon", "strawberry", "cherries", "doughnut", "cookie", "rose", "cactus")
STILL_LIFE_ARTIST = "noto"
PEOPLE = (
    "Mira",
    "Bella",
    "Ada",
    "Sofia",
    "Lena",
    "Nina",
    "Omar",
    "Zara",
    "Theo",
    "Otto",
    "Kofi",
    "Finn",
    "Hugo",
    "Ivan",
    "Yuki",
    "Ravi",
)
MOUTHS: dict[str, tuple[str, ...]] = {
    "smiling": ("happy",),
    "laughing": (),
    "sad": ("unhappy",),
    "surprised": ("amazed",),
}
SHIRTS = ("red", "blue", "green", "yellow")
MARKS = (
    "python",
    "mozilla",
    "android",
    "react",
    "tux",
    "postgres",
    "docker",
    "debian",
    "rust",
    "ubuntu",
    "gopher",
    "blender",
)
CARRIERS: dict[str, tuple[str, ...]] = {"T-shirt": ("tee",), "mug": ("cup",), "sign": ()}
COLOURS = ("white", "pink", "lime", "yellow")
BACKGROUNDS = ("white", "gray", "beige", "mint")
KINDS = ("object", "over", "beside", "portrait", "carrier")
PLAIN = "plain"  # what a carrier without a mark is

# What a picture may be asked about; where a field has no place in a picture it is "".
FIELDS: Mapping[str, tuple[str, ...]] = {
    "kind": KINDS,
    "subject": tuple(SUBJECTS),
    "second": STILL_LIFE,
    "artist": ARTISTS,
    "person": PEOPLE,
    "mouth": tuple(MOUTHS),
    "shirt": SHIRTS,
    "carrier": tuple(CARRIERS),
    "mark": (*MARKS, PLAIN),
    "colour": COLOURS,
    "background": BACKGROUNDS,
}

# Never drawn for training: two subjects of each artist, no subject twice.
HELD_OUT = frozenset(
    (subject, ARTISTS[place % len(ARTISTS)]) for place, subject in enumerate([*SUBJECTS][::4])
)


@dataclass(frozen=True)
class Scene:
    """One picture, by the words of FIELDS. `subject` is the only, the left or the upper one."""

    kind: str
    background: str
    subject: str = ""
    second: str = ""
    artist: str = ""
    person: str = ""
    mouth: str = ""
    shirt: str = ""
    carrier: str = ""
    mark: str = ""
    colour: str = ""

    @property
    def held_out(self) -> bool:
        return self.kind == "object" and (self.subject, self.artist) in HELD_OUT


@dataclass(frozen=True)
class Wording:
    """How captions vary: the chance of each choice."""

    synonym: float = 0.35
    no_artist: float = 0.12
    no_mouth: float = 0.2
    no_shirt: float = 0.3
    no_colour: float = 0.1
    no_background: float = 0.4
    empty: float = 0.03


def random_scene(rng: Random) -> Scene:
    """55 in 100 are subjects, 13 pairs of them, 17 portraits, 15 carriers; no held-out pair."""
    kind = rng.choices(KINDS, (55, 6.5, 6.5, 17, 15))[0]
    scene = Scene(kind, rng.choice(BACKGROUNDS))
    if kind == "portrait":
        person, mouth, shirt = rng.choice(PEOPLE), rng.choice([*MOUTHS]), rng.choice(SHIRTS)
        return replace(scene, person=person, mouth=mouth, shirt=shirt)
    if kind == "carrier":
        carrier, mark = rng.choice([*CARRIERS]), rng.choice(FIELDS["mark"])
        return replace(scene, carrier=carrier, mark=mark, colour=rng.choice(COLOURS))
    if kind != "object":
        first, second = rng.sample(STILL_LIFE, 2)
        return replace(scene, subject=first, second=second, artist=STILL_LIFE_ARTIST)
    while True:
        drawn = replace(scene, subject=rng.choice([*SUBJECTS]), artist=rng.choice(ARTISTS))
        if not drawn.held_out:
            return drawn


def caption(scene: Scene, rng: Random, wording: Wording = Wording()) -> str:
    """A sentence that the scene obeys; what the sentence leaves out is free."""
    if rng.random() < wording.empty:
        return ""
    said = {"object": _object, "portrait": _portrait, "carrier": _carrier}
    text = said.get(scene.kind, _pair)(scene, rng, wording)
    return _with_background(text, scene.background, rng, wording)


def with_article(words: str) -> str:
    """The words with "a" or "an" before them; "cherries" are many."""
    if words.startswith("cherries"):
        return words
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def _word(table: Mapping[str, tuple[str, ...]], name: str, rng: Random, wording: Wording) -> str:
    return rng.choice(table[name]) if table[name] and rng.random() < wording.synonym else name


def _object(scene: Scene, rng: Random, wording: Wording) -> str:
    word, artist = _word(SUBJECTS, scene.subject, rng, wording), scene.artist
    one = with_article(word)
    if rng.random() < wording.no_artist:
        return rng.choice((one, f"a picture of {one}", f"a drawing of {one}"))
    return rng.choice(
        (
            f"{one} in the style of {artist}",
            f"{one} by {artist}",
            f"{artist} {word}",
            f"{one} drawn by {artist}",
            f"{one}, {artist} style",
            f"{with_article(artist)} picture of {one}",
        )
    )


def _pair(scene: Scene, rng: Random, wording: Wording) -> str:
    one, two = (
        with_article(_word(SUBJECTS, name, rng, wording)) for name in (scene.subject, scene.second)
    )
    if scene.kind == "over":
        return rng.choice((f"{one} above {two}", f"{two} below {one}"))
    return rng.choice((f"{one} left of {two}", f"{two} right of {one}", f"{one} and {two}"))


def _portrait(scene: Scene, rng: Random, wording: Wording) -> str:
    person = scene.person
    text = rng.choice((person, person, f"a portrait of {person}", f"a picture of {person}"))
    if rng.random() >= wording.no_mouth:
        mouth = _word(MOUTHS, scene.mouth, rng, wording)
        text = rng.choice((f"{text} {mouth}", f"{mouth} {person}", f"{text}, {mouth}"))
    if rng.random() < wording.no_shirt:
        return text
    worn = f"{rng.choice(('in', 'wearing'))} a {scene.shirt} {rng.choice(('shirt', 'top'))}"
    return f"{text} {worn}"


def _carrier(scene: Scene, rng: Random, wording: Wording) -> str:
    carrier = _word(CARRIERS, scene.carrier, rng, wording)
    coloured = carrier if rng.random() < wording.no_colour else f"{scene.colour} {carrier}"
    one = with_article(coloured)
    if scene.mark == PLAIN:
        return rng.choice((one, f"a plain {coloured}", f"a picture of {one}"))
    mark = scene.mark
    return rng.choice(
        (
            f"{one} with the {mark} logo",
            f"{one} with {with_article(mark)} logo",
            f"the {mark} logo on {one}",
            f"{with_article(mark)} {carrier}",
            f"{one} with the {mark} mark",
        )
    )


def _with_background(text: str, background: str, rng: Random, wording: Wording) -> str:
    if rng.random() < wording.no_background:
        return text
    return rng.choice(
        (
            f"{text} on a {background} background",
            f"{text}, {background} background",
            f"{background} background, {text}",
        )
    )
