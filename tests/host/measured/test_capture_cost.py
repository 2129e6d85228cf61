"""Watching costs little: counted in operations, at full width."""

from __future__ import annotations

from eraseanything_pack.benchmarks.capture import counted, without_numbers


def test_watching_adds_at_most_two_percent_to_a_step() -> None:
    """With 1 + 1 blocks one in two is watched; of the real model's at most one in three."""
    with without_numbers(1, 1) as backend:
        plain, watched = (counted(backend, 512, blocks) for blocks in ((), (0,)))
    assert 0 < watched - plain <= 0.02 * 2 * plain  # a step's other pass is not watched
