"""One concept and seed: prompts that no training saw, and the base model's pictures of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from eraseanything_pack.erase_engine.concepts.grammar import fill, frame_of
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.judge import Verdict
from torch import Tensor

from ..world import FIRST_SEED, STEPS, World
from .scenery import Scenery

SCREENED, PARTS = 8, 8  # pictures of each other word, and of each way to meet a phrase's parts
SCREENING_STEPS = 8  # of a picture in the first look at all words
KINDS = ("named", "synonyms", "others", "words", "parts")  # of prompts that a method is drawn for
Pictures = Mapping[str, Tensor]  # kind of prompts -> (N, 3, 128, 128)


@dataclass(eq=False)
class Case:
    """A concept and seed with its plan and test prompts by kind.

    "named" names the concept, a third of them alone, the rest beside another thing; "anchors" are
    the same with other words, and "synonyms" every second of them; "others" name anything else;
    "words" holds `screened` prompts of each other word, "word star" `count` of that one; "parts"
    are about the parts of a phrase.
    """

    world: World
    concept: str
    seed: int
    count: int
    slow: bool = True  # the attacks that take longest are made as well, all words looked at longer
    plan: ConceptPlan = field(init=False)
    prompts: dict[str, list[Any]] = field(init=False)
    _base: dict[str, tuple[Tensor, tuple[Verdict, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.world.plan(self.concept, seed=self.seed)
        named = self._named()
        others, scenery = self.scenery.synonyms(self.concept), self.scenery
        about = {word: self._about(word) for word in self.words}
        prompts = {
            "named": named,
            "anchors": [self.renamed(prompt, self.plan.anchor) for prompt in named],
            "synonyms": [
                self.renamed(prompt, others[i % len(others)])
                for i, prompt in enumerate(named[::2])
                if others
            ],
            "others": scenery.prompts_without(
                self.concept, self.count, self.seed, accept=self.is_new
            ),
            "words": [prompt for some in about.values() for prompt in some[: self.screened]],
            **{f"word {word}": some for word, some in about.items()},
            "parts": scenery.part_prompts(self.concept, PARTS, self.seed, self.is_new),
        }
        self.prompts = {kind: some for kind, some in prompts.items() if some}

    @property
    def scenery(self) -> Scenery:
        """What can be asked of the world's pictures."""
        return self.world.scenery

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in KINDS if kind in self.prompts)

    @property
    def words(self) -> tuple[str, ...]:
        """The other words that are asked for, in the order of their prompts."""
        return self.scenery.other_words(self.concept)

    def is_new(self, prompt: Any) -> bool:
        """Whether the prompt does not stand in the plan, word for word."""
        plan = self.plan
        pairs = (text for pair in plan.pairs for text in (pair.concept_prompt, pair.anchor_prompt))
        return prompt.text not in {*pairs, *plan.keep, *getattr(plan, "held", ())}

    def renamed(self, prompt: Any, word: str) -> Any:
        """The prompt about another word."""
        return renamed(self.scenery, prompt, self.concept, word)

    @property
    def screened(self) -> int:
        """How many pictures of each other word are looked at first."""
        return SCREENED if self.slow else SCREENED // 2

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

    def _named(self) -> list[Any]:
        """Whose scenes stay possible with the anchor in them."""
        scenery, concept = self.scenery, self.concept

        def drawn(count: int, things: int) -> list[Any]:
            def accept(prompt: Any) -> bool:
                anchored = scenery.exchanged(prompt.scene, concept, self.plan.anchor)
                wanted = scenery.things(anchored) == things and scenery.possible(anchored)
                return wanted and self.is_new(prompt)

            return scenery.prompts_with(concept, count, self.seed, accept=accept) if count else []

        alone = scenery.alone(concept, self.count)
        return drawn(alone, 1) + drawn(self.count - alone, 2)

    def _about(self, word: str) -> list[Any]:
        def accept(prompt: Any) -> bool:
            return not self.scenery.shows(prompt.scene, self.concept) and self.is_new(prompt)

        return self.scenery.word_prompts(word, max(self.count, self.screened), self.seed, accept)


def renamed(scenery: Scenery, prompt: Any, concept: str, word: str) -> Any:
    """The prompt with other words in the concept's place; its scene stays what it was."""
    frame = frame_of(prompt.text, (concept,), noun=scenery.takes_article(concept))
    return replace(prompt, text=fill(frame, word))
