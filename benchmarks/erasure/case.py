"""One concept and seed: prompts that no training saw, and the base model's pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from eraseanything_pack.erase_engine.concepts.grammar import fill, frame_of
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.evaluate import Prompt, prompts_with, prompts_without
from eraseanything_pack.tinyworld.judge import Verdict
from eraseanything_pack.tinyworld.phrases import exchanged, kind_of, read_phrase, synonyms
from eraseanything_pack.tinyworld.vocabulary import Scene
from torch import Tensor

from ..world import FIRST_SEED, STEPS, World
from .prompts import other_words, part_prompts, word_prompts

SCREENED, PARTS = 8, 8  # pictures of each other word, and of each way to meet a phrase's parts
SCREENING_STEPS = 8  # of a picture in the first look at all words
KINDS = ("named", "synonyms", "others", "words", "parts")  # of prompts that a method is drawn for
Pictures = Mapping[str, Tensor]  # kind of prompts -> (N, 3, 128, 128)


@dataclass(eq=False)
class Case:
    """A concept and seed with its plan and test prompts by kind.

    "named" names the concept, a third of them alone, the rest beside another thing; "anchors" are
    the same with other words, and "synonyms" every second of them; "others" name anything else;
    "words" holds SCREENED prompts of each other word, "word star" `count` of that one; "parts" are
    about the parts of a phrase.
    """

    world: World
    concept: str
    seed: int
    count: int
    plan: ConceptPlan = field(init=False)
    prompts: dict[str, list[Prompt]] = field(init=False)
    _base: dict[str, tuple[Tensor, tuple[Verdict, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.world.plan(self.concept, seed=self.seed)
        named = self._named()
        others = synonyms(self.concept)
        about = {word: self._about(word) for word in other_words(self.concept)}
        self.prompts = {
            "named": named,
            "anchors": [self.renamed(prompt, self.plan.anchor) for prompt in named],
            "synonyms": [
                self.renamed(prompt, others[i % len(others)]) for i, prompt in enumerate(named[::2])
            ],
            "others": prompts_without(self.concept, self.count, self.seed, accept=self.is_new),
            "words": [prompt for some in about.values() for prompt in some[:SCREENED]],
            **{f"word {word}": some for word, some in about.items()},
        }
        if kind_of(self.concept) == "phrase":
            self.prompts["parts"] = part_prompts(self.concept, PARTS, self.seed, self.is_new)

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind in self.prompts)

    @property
    def words(self) -> tuple[str, ...]:
        """Every other word of the world, in the order of its prompts."""
        return other_words(self.concept)

    def is_new(self, prompt: Prompt) -> bool:
        """Whether the prompt does not stand in the plan, word for word."""
        plan = self.plan
        pairs = (text for pair in plan.pairs for text in (pair.concept_prompt, pair.anchor_prompt))
        return prompt.text not in {*pairs, *plan.keep, *getattr(plan, "held", ())}

    def renamed(self, prompt: Prompt, word: str) -> Prompt:
        """The prompt about another word."""
        return renamed(prompt, self.concept, word)

    def draw(self, kind: str, erasure: Erasure | None) -> Tensor:
        """Pictures of one kind of prompts; a prompt's noise depends on its place alone."""
        if erasure is None and kind in self._base:
            return self._base[kind][0]
        texts = [prompt.text for prompt in self.prompts[kind]]
        steps = SCREENING_STEPS if kind == "words" else STEPS
        pictures = self.world.draw(texts, FIRST_SEED + self.seed, erasure, steps=steps)
        if erasure is None:
            self._base[kind] = pictures, self.world.look(pictures)
        return pictures

    def base(self, kind: str) -> tuple[Verdict, ...]:
        """What each judge says of the base model's pictures."""
        self.draw(kind, None)
        return self._base[kind][1]

    def _named(self) -> list[Prompt]:
        """Whose scenes stay possible with the anchor in them: two things differ."""

        def drawn(count: int, fits: Callable[[Scene], bool]) -> list[Prompt]:
            def accept(prompt: Prompt) -> bool:
                anchored = exchanged(prompt.scene, self.concept, self.plan.anchor)
                return fits(anchored) and self.is_new(prompt)

            return prompts_with(self.concept, count, self.seed, accept=accept)

        alone = 0 if read_phrase(self.concept).relation is not None else self.count // 3
        return drawn(alone, is_alone) + drawn(self.count - alone, is_pair)

    def _about(self, word: str) -> list[Prompt]:
        concept = read_phrase(self.concept)
        return word_prompts(
            word,
            max(self.count, SCREENED),
            self.seed,
            lambda prompt: concept.place(prompt.scene) is None and self.is_new(prompt),
        )


def renamed(prompt: Prompt, concept: str, word: str) -> Prompt:
    """The prompt with other words in the concept's place; its scene stays what it was."""
    noun = "shape" in read_phrase(concept).fields
    return replace(prompt, text=fill(frame_of(prompt.text, (concept,), noun=noun), word))


def is_alone(scene: Scene) -> bool:
    return len(scene.things) == 1


def is_pair(scene: Scene) -> bool:
    """Two things that differ in shape and in colour, as in every picture of the tiny world."""
    if len(scene.things) == 1:
        return False
    first, second = scene.things
    return first.shape != second.shape and first.colour != second.colour
