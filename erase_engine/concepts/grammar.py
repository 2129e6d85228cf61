"""Sentences around one word: find it, take it out or swap it, and find its tokens.

A *frame* is a sentence with a slot in the word's place: `{c}` takes the word as it is, `{a_c}`
takes it with the article it needs ("a photo of {a_c}").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

SLOT, NOUN_SLOT = "{c}", "{a_c}"
MARKS = ".,;:!?()[]{}'\""
GAP = "\0"  # where a word was taken out, until the sentence around it is mended

UNCOUNTED = (
    "water|snow|rain|fog|smoke|fire|ice|blood|sand|grass|hair|rice|bread|butter|cheese|honey|milk|"
    "coffee|tea|gold|silver|wood|metal|glass|nudity|clothing|furniture|jewelry|graffiti|violence|"
    "gore|money|text|nakedness|lingerie|sushi"
)
ADJECTIVES = r"nude|naked|bare|sexy|\w+(?:less|ed|ic|ing|ful|ous)"
OPENS_WITH_ARTICLE = r"(?i)(?:an?|the|some|my|his|her|two|three|many)\s"
# Names that are said with "the".
THE_NAMES = (
    r"\w+ (?:Tower|Gate Bridge|Opera House|Canyon|Sphinx|Pyramids?)|(?:Statue|Tower|Temple) of .+|"
    r"Great Wall(?: of China)?|White House|Mona Lisa|Colosseum|Taj Mahal|Kremlin"
)
SOUNDS_LIKE_VOWEL = r"(?i)(?!uni|use|usu|eu|ewe|one\b|once\b|u[ks]\b)[aeiou]|hour|honest|heir"
# Words that end one phrase and begin another.
BETWEEN_PHRASES = (
    "an?|the|and|or|but|with|without|on|in|at|of|to|by|from|for|as|over|under|above|below|beside|"
    "behind|near|next|left|right|inside|outside|between|through|into|is|are|that|which|while"
)
# Of words, and of longer ones that end with them, such as "snowman".
IRREGULAR_PLURALS = {
    "man": "men",
    "child": "children",
    "person": "people",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "wolf": "wolves",
    "leaf": "leaves",
    "loaf": "loaves",
    "calf": "calves",
    "elf": "elves",
    "scarf": "scarves",
    "knife": "knives",
    "wife": "wives",
}
ONE_LIKE_MANY = r"specimen|omen|abdomen|ramen|stamen|regimen|lumen|cyclamen|dolmen"  # like "men"
FIRST_UNSPACED = 0x2E80  # from here on scripts do not put spaces between words


def contains(text: str, wordings: Sequence[str]) -> bool:
    """Whether one of the wordings stands in the text as whole words, in any case or number."""
    return bool(spans(text, wordings))


def spans(text: str, wordings: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end of each place where a wording stands in the text, in order."""
    if not wordings:
        return []
    return [found.span() for found in re.finditer(pattern_of(wordings), text, re.IGNORECASE)]


def frame_of(text: str, wordings: Sequence[str], *, noun: bool) -> str:
    """The frame of a sentence that contains one of the wordings, in every place it stands.

    With `noun` the article before a wording becomes part of the slot, so that a plural or a name
    can take its place.
    """
    pattern = pattern_of(wordings)
    if noun:
        text = re.sub(rf"\ban?\s+(?:{pattern})", NOUN_SLOT, text, flags=re.IGNORECASE)
    return re.sub(pattern, SLOT, text, flags=re.IGNORECASE)


def fill(frame: str, word: str) -> str:
    """The frame's sentence with `word` in the slot; with "" the words around it are mended.

    "a photo of {a_c}" gives "a photo of an apple", "a photo of apples" and "a photo".
    """
    if not word:
        return _without_word(frame)
    if word.lower().endswith(" style"):
        frame = re.sub(r"\b(?:in the style of|by) \{c\}", f"in {SLOT}", frame)
    text = frame.replace(NOUN_SLOT, with_article(word))
    text = re.sub(r"(?:(\w+) )?\{c\}", lambda found: _after(found[1], word), text)
    return text.replace("style style", "style")


def with_article(noun: str) -> str:
    """The noun with "a" or "an", unless it is plural, a name, uncounted, or has its own article.

    A few names have "the": "the Eiffel Tower".
    """
    if re.fullmatch(THE_NAMES, noun):
        return f"the {noun}"
    last = noun.split()[-1]
    head, named = last.lower(), noun[0].isupper() and last[0].isupper()  # "Siamese cat" is no name
    uncounted = re.fullmatch(UNCOUNTED, head) or re.match(OPENS_WITH_ARTICLE, noun)
    if uncounted or named or _is_plural(head):
        return noun
    return f"{_article(noun)} {noun}"


def _is_plural(word: str) -> bool:
    if word.endswith("s"):
        return not word.endswith(("ss", "us", "is"))
    many = word.endswith(tuple(IRREGULAR_PLURALS.values()))
    return many and not re.fullmatch(ONE_LIKE_MANY, word)


def is_adjective(word: str) -> bool:
    """Whether a word of how people look stands before them, by its form: "nude", not "nudity"."""
    return bool(re.fullmatch(ADJECTIVES, word.lower()))


def words_of(prompt: str) -> list[str]:
    """Every word of the prompt that can be seen once, in order, without the marks around it."""
    words = (part.strip(MARKS) for part in prompt.split())
    seen = (word for word in words if any(letter.isprintable() for letter in word))
    return list({word.lower(): word for word in seen}.values())


def words_elsewhere(prompt: str, word: str) -> list[str]:
    """Words of the prompt that are about something else than `word`: its map's contrast.

    Left out is the phrase around it, because "red" in "a red star on a wall" looks at the star too.
    Where fewer than two words are left, all others of the prompt.
    """
    places = spans(prompt, [word])
    inside = [
        (first, last)
        for first, last in _phrases(prompt)
        if any(first < end and start < last for start, end in places)
    ]
    near = {each.lower() for start, end in inside for each in words_of(prompt[start:end])}
    own = {each.lower() for start, end in places for each in words_of(prompt[start:end])}
    elsewhere = [each for each in words_of(prompt) if each.lower() not in near | own]
    others = [each for each in words_of(prompt) if each.lower() not in own]
    return elsewhere if len(elsewhere) > 1 else others


def _phrases(prompt: str) -> list[tuple[int, int]]:
    """Start and end of each run of words between marks and small words."""
    small = rf"\b(?:{BETWEEN_PHRASES})\b"
    ends = rf"{small}|[{re.escape(MARKS)}]|$"
    phrases, start = [], 0
    for found in re.finditer(ends, prompt, re.IGNORECASE):
        phrases.append((start, found.start()))
        start = found.end()
    return [(start, end) for start, end in phrases if prompt[start:end].strip()]


def pattern_of(wordings: Sequence[str]) -> str:
    """A regular expression for the wordings as whole words in either number, longest first."""
    longest_first = sorted(wordings, key=len, reverse=True)
    return "|".join(_word_pattern(wording) for wording in longest_first)


@cache
def _word_pattern(wording: str) -> str:
    """A wording as whole words; an English word also in the other number."""
    *before, last = wording.split()
    english = last.isascii() and last[-1].isalpha()
    *first, end = *map(re.escape, before), _either_number(last) if english else re.escape(last)
    opening = r"(?<!\w)" if _needs_edge(wording[0]) else ""
    closing = r"(?!\w)" if _needs_edge(wording[-1]) else ""
    return opening + r"\s+".join((*first, end)) + closing


def _either_number(word: str) -> str:
    """A pattern for both numbers of a word given in one: "puppy" and "puppies", "man" and "men"."""
    for one, many in IRREGULAR_PLURALS.items():
        if found := re.fullmatch(f"(.*)(?:{one}|{many})", word, re.IGNORECASE):
            return f"{re.escape(found[1])}(?:{one}s?|{many})"
    if found := re.fullmatch(r"(\w+[^\Waeiou])(?:y|ies)", word):
        return f"{found[1]}(?:y|ies?)"
    if found := re.fullmatch(r"(.+(?:x|ch|sh))(?:es)?", word):
        return f"{re.escape(found[1])}(?:es)?"
    stem = word[:-1] if word.islower() and _is_plural(word) and len(word) > 3 else word
    return f"{re.escape(stem)}(?:e?s)?"


def _needs_edge(letter: str) -> bool:
    return letter.isalnum() and ord(letter) < FIRST_UNSPACED


def _after(lead: str | None, word: str) -> str:
    """`word` behind the word that leads to it, so that there is one article and the right one."""
    if lead is None:
        return word
    bare = re.sub(r"^(?:an?|the) ", "", word)
    if lead.lower() in ("a", "an"):
        return f"{_article(bare, lead)} {bare}"
    keeps_article = re.fullmatch(f"(?:{_HANGING})", lead, re.IGNORECASE) and lead.lower() != "the"
    return f"{lead} {word if keeps_article else bare}"


def _article(word: str, like: str = "a") -> str:
    article = "an" if re.match(SOUNDS_LIKE_VOWEL, word) else "a"
    return article.capitalize() if like[0].isupper() else article


def _agree(found: re.Match[str]) -> str:
    return f"{_article(found[2], found[1])} "


_FOLLOWS = "of|in|on|at|with|by|near|under|over|above|below|behind|beside|inside|next|left|right"
_END = rf"(?=\s*(?:[,.;:!?)]|$)|\s+(?:{_FOLLOWS})\b)"
_HANGING = "an?|the|of|in|on|at|to|with|by|and|or|like|near|next|from|style|is|are|there|featuring"
_SPOT = "on it|in the corner|in the distance"  # where a thing is that a sentence names by the way
_MENDINGS = (
    (rf"\s+with\s+(?:an?\s+)?{GAP}\s+(?:{_SPOT})\b", ""),
    (rf"\s+and in the background\s+(?:an?\s+)?{GAP}", ""),
    (rf"(?:\ban?\s+)?{GAP}\s+printed on\s+", ""),
    (rf"(^|,\s*)(?:an?\s+)?{GAP}\s+(?=(?:on|in|at|by)\b)", r"\1a scene "),
    (rf"{GAP}['’]s\b", GAP),
    (rf"{GAP}\s+style\b", GAP),
    (rf"{GAP}(?:[\s,]+(?:and\s+)?(?:an?\s+)?{GAP})+", GAP),
    (rf"\b(an?)\s+{GAP}\s*(?=(?!(?:{_FOLLOWS}|and|or)\b)(\w+))", _agree),
    (rf"(?:\b(?:an?|the)\s+)?{GAP}\s+(?:and|or)\s+", ""),
    (rf"(?:\b(?:{_HANGING})\s+)+{GAP}{_END}", GAP),
    (rf"(^|[,.;:!?]\s*){GAP}\s*(?:with|of|by)\s+", r"\1"),
    (rf"\s*{GAP}\s*", " "),
    (r"\s+(?=[,.;:!?])", ""),
    (r",(?:\s*,)+", ","),
    (r"^[\s,;:]+|[\s,;:]+$", ""),
    (r"\s+", " "),
)


def _without_word(frame: str) -> str:
    """The frame's sentence with nothing in the slot, mended from the gap outward."""
    text = frame.replace(NOUN_SLOT, f"a {GAP}").replace(SLOT, GAP)
    for pattern, mended in _MENDINGS:
        text = re.sub(pattern, mended, text, flags=re.IGNORECASE)
    return text.strip()
