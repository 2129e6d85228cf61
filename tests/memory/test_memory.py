"""What a training is said to need: a step on sizes alone, against sums done by hand."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from erase_engine.closed_form.least_squares import Edit, low_rank_solution
from erase_engine.closed_form.text_rows import Features, TextRows
from erase_engine.config import EraseConfig, LossWeights
from erase_engine.interfaces import LatentGrid, Prompt
from erase_engine.memory import (
    LORA_COPIES,
    META,
    LiveBytes,
    MemoryEstimate,
    described,
    estimate_memory,
    fused_attention,
    gigabytes,
    sampled_bytes,
    solved_bytes,
    trajectory_bytes,
)

CONFIG: dict[str, Any] = {"width": 256, "height": 256, "batch": 2, "keep_per_step": 2}
WIDTH = 8  # of the small model's text and blocks


@pytest.fixture
def twin(small_flow: Any) -> Any:
    """The small model without values."""
    for layer in (*small_flow.layers, small_flow.enter, small_flow.leave):
        layer.to(META)
    mass = small_flow._mass
    small_flow._mass = lambda weights, tokens: mass(weights, tokens.to(META))
    return small_flow


def estimated(
    twin: Any, text_tokens: int = 6, rows: TextRows | None = None, **changes: Any
) -> MemoryEstimate:
    config = EraseConfig(**{**CONFIG, "recipe": "fast", **changes})
    prompt = Prompt(torch.randn(text_tokens, WIDTH), torch.randn(WIDTH))
    return estimate_memory(twin, config, prompt, watched=4, weights=1_000_000, rows=rows)


def test_parts(twin: Any) -> None:
    memory = estimated(twin)
    adapters = 2 * 2 * 2 * WIDTH * 8  # A and B of q and k in two blocks, rank 8
    assert memory.weights == 1_000_000
    assert memory.lora == LORA_COPIES * 4 * adapters
    assert memory.total == sum(astuple(memory)) == memory.weights + memory.beside_weights


@pytest.mark.parametrize(
    "change", [{"batch": 4}, {"keep_per_step": 4}, {"width": 512}, {"text_tokens": 64}]
)
def test_more_of_anything_needs_more(twin: Any, change: dict[str, int]) -> None:
    less, more = estimated(twin), estimated(twin, **change)
    assert more.kept > less.kept and more.total > less.total and more.lora == less.lora


def test_a_batch_of_two_keeps_twice_as_much(twin: Any) -> None:
    one, two = (estimated(twin, batch=n, keep_per_step=n) for n in (2, 4))
    assert two.kept == pytest.approx(2 * one.kept, rel=0.01) and two.lora == one.lora


def test_passes_that_wait_for_one_backward_are_kept_together(twin: Any) -> None:
    """The halves of a step do not wait for each other, in no solver."""
    alone = estimated(twin).kept
    assert estimated(twin, solver="budget").kept == pytest.approx(alone, rel=0.01)
    attacked = estimated(twin, attack=0.5).kept  # as a solved entrance is while it is trained
    trained = estimated(twin, solver="solve").kept  # as a phrase is, by twice as many
    assert trained == pytest.approx(2 * attacked, rel=0.01)
    contrast = LossWeights(keep=1.0, rsc=0.1)
    assert estimated(twin, weights=contrast).kept == pytest.approx(2 * alone, rel=0.01)
    drawn = LossWeights(keep=0.0, rsc=0.1, reconstruction=0.1)
    assert estimated(twin, weights=drawn).kept == pytest.approx(2 * alone, rel=0.01)
    everything = estimated(twin, weights=contrast, solver="budget").kept
    assert everything == pytest.approx(2 * alone, rel=0.01)


def some_rows(width: int, held: int) -> TextRows:
    """Random rows without a pooled kind."""
    concept, anchor, stays = (torch.randn(count, width) for count in (20, 20, held))
    return TextRows(Features(concept, anchor, torch.ones(20, dtype=torch.bool), stays), None)


@pytest.mark.parametrize(("width", "held"), [(256, 64), (256, 4000), (64, 4000)])
def test_a_closed_form_takes_at_most_what_is_said(width: int, held: int) -> None:
    with LiveBytes() as live:
        rows = [torch.empty(count, width, device=META) for count in (20, 20, held)]
        share, weight = (torch.empty(count, device=META) for count in (20, held))
        edit = Edit(rows[0], rows[1], share)
        low_rank_solution(edit, rows[2], weight, rank=8, keep=1.0, ridge=0.1)
    assert (
        0.5 * solved_bytes(some_rows(width, held))
        < live.peak
        <= solved_bytes(some_rows(width, held))
    )


def test_without_steps_there_is_the_closed_form_alone(twin: Any) -> None:
    rows = some_rows(WIDTH, 100)
    memory = estimated(twin, steps=0, rows=rows)
    assert (memory.kept, memory.working, memory.solved) == (0, 0, solved_bytes(rows))
    assert "for the closed form, beside which they need not fit" in described(
        memory, EraseConfig(steps=0), LatentGrid(16), text_bytes=0
    )
    assert estimated(twin, rows=rows).total == estimated(twin).total + solved_bytes(rows)


def test_text_under_attack_has_a_gradient(twin: Any) -> None:
    assert estimated(twin, attack=0.5).kept > estimated(twin).kept


def test_what_lives_is_counted_once_and_while_it_lives() -> None:
    weight = torch.empty(1000, device=META)
    with LiveBytes() as live:
        weight.view(10, 100)
        assert live.now == 0  # a view of what was there
        first = weight * 2
        rows = first.view(10, 100)
        del first
        assert live.now == 4000
        total = rows.to(torch.float64) + 1
        del rows
        assert (live.now, live.peak) == (8000, 4000 + 2 * 8000)
        del total
        assert live.now == 0


def test_attention_keeps_no_scores() -> None:
    """Twice, as checkpointing asks for it: also where it is run again in backward."""
    q, k, v = (torch.empty(1, 2, 1024, 64, device=META, requires_grad=True) for _ in range(3))
    heads, scores = 4 * 2 * 1024 * 64, 4 * 2 * 1024**2
    with fused_attention(), LiveBytes() as live:
        out = torch.utils.checkpoint.checkpoint(
            scaled_dot_product_attention, q, k, v, use_reentrant=False
        )
        assert live.now == heads
        out.sum().backward()
    assert 4 * heads <= live.peak < scores
    assert [each.grad.shape for each in (q, k, v)] == 3 * [q.shape]  # type: ignore[union-attr]
    with LiveBytes() as live:
        scaled_dot_product_attention(q, k, v)
    assert live.peak >= scores  # torch's own way is back


def test_a_gigabyte_is_that_of_graphics_cards() -> None:
    assert gigabytes(24 * 2**30) == "24.0 GB" and gigabytes(7 * 2**20) == "7 MB"


def test_fresh_sampling_keeps_one_path_and_the_pictures() -> None:
    config = EraseConfig.from_recipe("paper", width=256, height=256, trajectories=4096, steps=8000)
    latent = 16 * 32 * 32 * 4
    assert sampled_bytes(config, LatentGrid(16)) == (29 + config.paths) * latent
    cached = replace(config, sampling="cached")
    states = trajectory_bytes(cached, (16, 32, 32))
    assert sampled_bytes(cached, LatentGrid(16)) == states + config.paths * latent


def test_the_sentence_adds_text_to_the_states() -> None:
    config = EraseConfig(**CONFIG, trajectories=4096, trajectory_steps=1000)
    memory = MemoryEstimate(weights=2**31, kept=2**30, working=0, lora=0, rest=0)
    states = trajectory_bytes(config, (16, *(2 * (config.height // 8,))))
    assert described(memory, config, LatentGrid(16), text_bytes=2**30 - states) == (
        "Expected to need about 3.0 GB: 2.0 GB for the weights and 1.0 GB for a step; and 1.0 GB "
        "of the computer's memory for sampled states and text."
    )
