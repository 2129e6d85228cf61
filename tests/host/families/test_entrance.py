"""The closed form on every family: solved on what the entrance is given, norms included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.closed_form.entrance import Entrances
from eraseanything_pack.erase_engine.closed_form.text_rows import Features, TextRows
from eraseanything_pack.erase_engine.config import EntranceConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.nodes.host.session import training_session
from families.nets import NETS, POOLED, TEXT

RANK, WORDS = 8, 4
CONFIG = EntranceConfig(ridge=1e-6, pooled_ridge=1e-6)
by_name = pytest.mark.parametrize("name", list(NETS))


def features(width: int, generator: torch.Generator) -> Features:
    """Tokens of one size that lie apart; the held ones leave room for the rest to move."""
    rows = torch.linalg.qr(torch.randn(width, width, generator=generator))[0] * 3
    own = torch.ones(WORDS, dtype=torch.bool)
    return Features(rows[:WORDS], rows[WORDS : 2 * WORDS], own, rows[2 * WORDS :])


def rows_of(pooled: bool) -> TextRows:
    generator = torch.Generator().manual_seed(0)
    text = features(TEXT, generator)
    return TextRows(text, features(POOLED, generator) if pooled else None)


@by_name
def test_a_words_tokens_enter_as_the_anchors_and_the_rest_as_before(name: str) -> None:
    rows = rows_of(NETS[name].pooled)
    with torch.inference_mode(), training_session(NETS[name].build()) as backend:
        kinds = {"text": rows.text, "pooled": rows.pooled}
        assert set(backend.entrances.values()) == {kind for kind in kinds if kinds[kind]}
        solved = Entrances(backend, rows, CONFIG, rank=RANK)
        solved.solve()
        assert solved.unsolved < 0.01
        slices = backend.linear_slices(backend.target_names("text_in"))
        lora = LoraSet(slices, rank=RANK, generator=torch.Generator().manual_seed(1))
        solved.put(lora)

        def entered(layer: str, text: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return slices[layer].module(backend.entering(layer, text))

        for layer, kind in backend.entrances.items():
            given: Any = kinds[kind]
            before = [entered(layer, each) for each in (given.anchor, given.held, given.concept)]
            with lora.attach(slices):
                word, held = (entered(layer, each) for each in (given.concept, given.held))
            assert (word - before[0]).norm() < 0.1 * (before[2] - before[0]).norm()
            assert (held - before[1]).norm() < 0.01 * before[1].norm()


@by_name
def test_what_undoes_the_solution_does(name: str) -> None:
    """Added to the word's tokens, as an attack does, it brings it back a part of the way."""
    rows = rows_of(NETS[name].pooled)
    text = rows.text
    one = Features(text.concept[:1], text.anchor[:1], text.own[:1], text.held)
    with torch.inference_mode(), training_session(NETS[name].build()) as backend:
        solved = Entrances(backend, TextRows(one, rows.pooled), CONFIG, rank=RANK)
        solved.solve()
        way = solved.text.undoing().to(one.concept)
        moved = one.concept + one.concept.norm(dim=1, keepdim=True) * way
        (layer,) = (each for each, kind in backend.entrances.items() if kind == "text")
        module = backend.linear_slices([layer])[layer].module
        down, up = solved.text.down, solved.text.up

        def enters(text: torch.Tensor) -> torch.Tensor:
            given = backend.entering(layer, text)
            with torch.no_grad():
                return module(given) + given @ down.T @ up.T

        with torch.no_grad():
            word = module(backend.entering(layer, one.concept))
        assert (enters(moved) - word).norm() < 0.8 * (enters(one.concept) - word).norm()
