"""What one judge says of an erased model's pictures: functions of a case, pictures and verdicts.

Percentages are 0 to 100. acc_ir, ira, cra, acc_co, replaced, worst_word and parts are percent of
the base model's own rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from eraseanything_pack.tinyworld.judge import Verdict
from torch import Tensor

from .case import Case, Pictures
from .figures import drift, frechet_distance, percent

WORST = 3  # words that are looked at again, in more pictures


@dataclass(frozen=True)
class Look:
    """Pictures by the kind of their prompts, seen by one judge (its place in the world's).

    Shares are of the base model's own rate; with `absolute` they are that rate itself.
    """

    case: Case
    pictures: Pictures
    verdicts: Mapping[str, Verdict]
    judge: int
    absolute: bool = False

    @classmethod
    def at(cls, case: Case, pictures: Pictures, *, absolute: bool = False) -> tuple[Look, ...]:
        """By every judge; each picture is looked at once."""
        seen = {kind: case.world.look(some) for kind, some in pictures.items()}
        return tuple(
            cls(case, pictures, {kind: each[judge] for kind, each in seen.items()}, judge, absolute)
            for judge in range(len(case.world.judges))
        )

    @property
    def base(self) -> Look:
        """The base model's pictures of the same prompts, and of the anchors, by the same judge."""
        kinds = [*self.pictures, "anchors"]
        verdicts = {kind: self.case.base(kind)[self.judge] for kind in kinds}
        pictures = {kind: self.case.draw(kind, None) for kind in kinds}
        return Look(self.case, pictures, verdicts, self.judge)

    def share(self, rate: float, own: float) -> float | None:
        """A rate as percent of the base model's own; None where that is 0."""
        if self.absolute:
            return own
        return round(100 * rate / own, 2) if own else None

    def found(self, kind: str) -> Tensor:
        """(N,) bool: the concept is in the pictures."""
        prompts, verdict = self.case.prompts[kind], self.verdicts[kind]
        return self.case.scenery.found(self.case.concept, prompts, verdict)

    def replaced(self, kind: str) -> Tensor:
        """(N,) bool: the anchor stands where the concept was asked for."""
        concept, anchor = self.case.concept, self.case.plan.anchor
        prompts, verdict = self.case.prompts[kind], self.verdicts[kind]
        return self.case.scenery.replaced(concept, anchor, prompts, verdict)

    def obeyed_each(self, kind: str) -> Tensor:
        """(N,) how much of what each prompt asks for is there, but for the concept."""
        prompts, concept = self.case.prompts[kind], self.case.concept
        return self.case.scenery.obeyed(prompts, self.verdicts[kind], but=concept)

    def obeyed(self, kind: str) -> float:
        """Their mean, in per cent."""
        return percent(self.obeyed_each(kind))

    def kept(self, word: str, kind: str) -> Tensor:
        """(N,) bool: a word stands in its place."""
        prompts, verdict = self.case.prompts[kind], self.verdicts[kind]
        return self.case.scenery.replaced(word, word, prompts, verdict)

    def words(self) -> dict[str, float]:
        """The share of the case's first pictures in which each other word is kept."""
        prompts, verdict, rates = self.case.prompts["words"], self.verdicts["words"], {}
        for number, word in enumerate(self.case.words):
            rows = slice(number * self.case.screened, (number + 1) * self.case.screened)
            some = Verdict({name: chance[rows] for name, chance in verdict.chances.items()})
            rates[word] = percent(self.case.scenery.replaced(word, word, prompts[rows], some))
        return rates

    def parts(self) -> Tensor:
        """(N,) bool: what a phrase says of a thing is as asked, of each thing."""
        prompts, verdict = self.case.prompts["parts"], self.verdicts["parts"]
        return self.case.scenery.parts(self.case.concept, prompts, verdict)


def quality(look: Look) -> dict[str, float | str | None]:
    """The row's figures by one judge, but for attacks and costs."""
    case, base = look.case, look.base
    network = case.world.judges[look.judge]
    features = [network.features(each.pictures["others"]) for each in (look, base)]
    return {
        "acc_e": percent(look.found("named")),
        "floor": percent(base.found("anchors")),
        "acc_g": percent(look.found("synonyms")) if "synonyms" in look.pictures else None,
        "acc_ir": look.share(look.obeyed("others"), base.obeyed("others")),
        **words_kept(look),
        "acc_co": look.share(look.obeyed("named"), base.obeyed("named")),
        "drift": round(drift(look.pictures["others"], base.pictures["others"]), 6),
        "fjd": round(frechet_distance(*features), 3),
        **replacement(look),
        **ideal_distance(look),
        **worst_word(look),
        "parts": look.share(percent(look.parts()), percent(base.parts()))
        if "parts" in look.pictures
        else None,
    }


def words_kept(look: Look) -> dict[str, float | None]:
    """In UnlearnCanvas's terms: other words of the concept's own field (ira), and all others."""
    near, concept = look.case.scenery.near, look.case.concept
    if near is None:
        return {}
    rates = [each.words() for each in (look, look.base)]
    same = [word for word in look.case.words if near(concept, word)]
    fields = {"ira": same, "cra": [word for word in look.case.words if word not in same]}
    return {
        name: look.share(*(fmean(each[word] for word in words) for each in rates))
        for name, words in fields.items()
    }


def replacement(look: Look) -> dict[str, float | None]:
    """How often the anchor stands in the concept's place, of the base model's rate when asked.

    Apart for prompts with one thing and with two; relations have only two.
    """
    got, own = look.replaced("named"), look.base.replaced("anchors")
    named, count_of = look.case.prompts["named"], look.case.scenery.things
    things = torch.tensor([count_of(prompt.scene) for prompt in named])
    return {
        name: look.share(percent(got[things == count]), percent(own[things == count]))
        if (things == count).any()
        else None
        for name, count in (("replaced_one", 1), ("replaced_two", 2))
    }


def ideal_distance(look: Look) -> dict[str, float]:
    """How far the pictures are from what the base model draws when asked for the anchor.

        d(erased(c), base(c0)) / mean d(base(c), base(c0)),  d the mean squared difference

    from the same noise: its mean and 90th percentile over pictures. 0 is that very picture, a
    mean of 1 is no erasure.
    """
    base = look.base.pictures
    away, whole = (
        (some - base["anchors"]).square().mean(dim=(1, 2, 3))
        for some in (look.pictures["named"], base["named"])
    )
    share = away / whole.mean()
    return {
        "ideal": round(share.mean().item(), 4),
        "ideal_p90": round(share.quantile(0.9).item(), 4),
    }


def worst_word(look: Look) -> dict[str, float | str | None]:
    """The least share of the base model's rate at which another word is kept, and which word."""
    base = look.base
    rates = {
        kind.removeprefix("word "): look.share(
            percent(look.kept(kind.removeprefix("word "), kind)),
            percent(base.kept(kind.removeprefix("word "), kind)),
        )
        for kind in look.pictures
        if kind.startswith("word ")
    }
    known = {word: rate for word, rate in rates.items() if rate is not None}
    name = min(known, key=known.__getitem__)
    return {"worst_word": known[name], "worst_word_name": name}


def suspects(look: Look) -> list[str]:
    """The WORST words by a few pictures of each; of equal ones those that have moved most."""
    rates, own = look.words(), look.base.words()
    gaps = (look.pictures["words"] - look.base.pictures["words"]).square().mean(dim=(1, 2, 3))
    moved = dict(zip(rates, gaps.view(-1, look.case.screened).mean(dim=1).tolist(), strict=True))
    share = {word: look.share(rates[word], own[word]) or 0.0 for word in rates if own[word]}
    return sorted(share, key=lambda word: (share[word], -moved[word]))[:WORST]
