"""Each loss: its sign, its scale, and where its gradient pulls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from erase_engine.interfaces import TokenSet
from erase_engine.training.losses import (
    attention_feature,
    attention_mass,
    attention_ratio,
    attention_sum,
    erase_by_hinge,
    erase_by_target,
    esd_loss,
    esd_target,
    keep_loss,
    reconstruction_loss,
    rsc_loss,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CONCEPT, ANCHOR = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1)


def test_eta_0_is_the_anchors_velocity() -> None:
    assert torch.equal(esd_target(CONCEPT, ANCHOR, 0.0), ANCHOR)


@pytest.mark.parametrize("eta", [0.5, 1.0, 3.0])
def test_the_target_lies_beyond_the_anchor_seen_from_the_concept(eta: float) -> None:
    target = esd_target(CONCEPT, ANCHOR, eta)
    torch.testing.assert_close(target - ANCHOR, eta * (ANCHOR - CONCEPT))


@pytest.mark.parametrize("loss", [esd_loss, keep_loss])
def test_velocity_losses_are_mean_squares(loss) -> None:
    student = CONCEPT.clone().requires_grad_()
    assert not loss(student, CONCEPT).any()
    found = loss(student, CONCEPT + torch.tensor([2.0, 3.0])[:, None, None, None])
    assert found.tolist() == pytest.approx([4, 9])  # of each sample: no size of the picture in it
    loss(student, CONCEPT + 2).mean().backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.full_like(CONCEPT, -4 / CONCEPT.numel()))


def test_reconstruction_pulls_the_velocity_from_the_picture_to_the_noise() -> None:
    """One Euler step from any x_t with the velocity that it asks for ends at the picture."""
    x_0, noise, t = draw(2, 4, 3, 3, seed=2), draw(2, 4, 3, 3, seed=3), 0.3
    student = draw(2, 4, 3, 3, seed=4).requires_grad_()
    loss = reconstruction_loss(student, x_0, noise)
    (slope,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(slope, 2 * (student - (noise - x_0)) / noise.numel())
    wanted = student.detach() - slope * noise.numel() / 2
    torch.testing.assert_close((1 - t) * x_0 + t * noise - t * wanted, x_0)
    assert reconstruction_loss(noise - x_0, x_0, noise) == 0


def test_the_erase_losses_take_the_teachers_velocities() -> None:
    target = esd_target(CONCEPT, ANCHOR, 0.5)
    student = draw(2, 4, 3, 3, seed=5)
    assert torch.equal(erase_by_target(student, CONCEPT, ANCHOR, 0.5), esd_loss(student, target))


def test_the_hinge_is_0_near_the_anchor_and_a_gap_at_the_concept() -> None:
    assert not erase_by_hinge(ANCHOR, CONCEPT, ANCHOR, 1.0).any()
    gap = (CONCEPT - ANCHOR).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(erase_by_hinge(CONCEPT, CONCEPT, ANCHOR, 1.0), gap)
    halfway = (CONCEPT + ANCHOR) / 2
    assert erase_by_hinge(halfway, CONCEPT, ANCHOR, 1.0).tolist() == pytest.approx([0, 0], abs=1e-6)
    torch.testing.assert_close(erase_by_hinge(halfway, CONCEPT, ANCHOR, 0.5), gap / 4)


def test_the_hinge_pulls_from_the_concept_to_the_anchor() -> None:
    student = ((3 * CONCEPT + ANCHOR) / 4).requires_grad_()
    erase_by_hinge(student, CONCEPT, ANCHOR, 1.0).mean().backward()
    assert student.grad is not None
    assert ((ANCHOR - CONCEPT) * student.grad).sum() < 0  # downhill is towards the anchor
    at_concept = CONCEPT.clone().requires_grad_()
    erase_by_hinge(at_concept, CONCEPT, ANCHOR, 1.0).mean().backward()
    assert at_concept.grad is not None and at_concept.grad.isfinite().all()


def test_velocity_losses_are_computed_in_float32() -> None:
    half = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    assert esd_loss(half, torch.zeros_like(half)).item() == 90_000  # more than float16 holds


def test_velocities_of_two_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"Got velocities .* expected one shape"):
        esd_loss(CONCEPT, ANCHOR[:1])


# Two concept tokens, then two other words of the prompt; (B, H, L, W) for each of two blocks.
MASS = [draw(2, 3, 9, 4, seed=2).abs() / 9, draw(2, 3, 9, 4, seed=3).abs() / 9]
TEACHER_MASS = attention_mass(MASS)
CONCEPT_ALONE = [block[..., :2] for block in MASS]
TOKENS = TokenSet(torch.tensor([[1, 2]] * 2), torch.tensor([[0, 3]] * 2))


def scaled(concept: float, *others: float) -> list[Tensor]:
    """The teacher's attention with the concept's and each other word's times a factor."""
    return [block * torch.tensor([concept, concept, *others]) for block in MASS]


def test_the_attention_mass_is_a_mean_over_blocks_heads_and_queries() -> None:
    ones = [torch.ones(5, 3, 9, 2), 3 * torch.ones(5, 3, 9, 2)]
    assert torch.equal(attention_mass(ones), torch.full((5, 2), 2.0))


def test_the_attention_ratio_is_1_for_equal_masses_whatever_their_scale() -> None:
    for scale in (1.0, 1e-3, 1e3):
        same = [block * scale for block in MASS]
        ratio = attention_ratio(same, attention_mass(same), TOKENS, 1.0)
        assert ratio.tolist() == pytest.approx([1, 1])


def test_the_attention_ratio_is_what_is_left_of_the_concept() -> None:
    ratio = attention_ratio(scaled(0.25, 1, 1), TEACHER_MASS, TOKENS, 1.0)
    assert ratio.tolist() == pytest.approx([0.25] * 2)
    assert not attention_ratio(scaled(0, 1, 1), TEACHER_MASS, TOKENS, 1.0).any()
    blind = attention_mass(scaled(0, 0, 0))
    assert attention_ratio(MASS, blind, TOKENS, 1.0).isfinite().all()


def test_what_other_words_lose_is_added_word_by_word() -> None:
    ratio = attention_ratio(scaled(0.25, 0.5, 1), TEACHER_MASS, TOKENS, 2.0)
    assert ratio.tolist() == pytest.approx([0.25 + 2 * (0.5 + 0) / 2] * 2)


def test_what_one_word_gains_makes_up_for_no_other() -> None:
    ratio = attention_ratio(scaled(0.25, 0.5, 3), TEACHER_MASS, TOKENS, 2.0)
    assert ratio.tolist() == pytest.approx([0.25 + 2 * (0.5 + 0) / 2] * 2)


def test_a_word_that_is_absent_loses_nothing() -> None:
    absent = [block * torch.tensor([1.0, 1, 1, 0]) for block in MASS]
    student = [block * torch.tensor([0.25, 0.25, 0.5, 0]) for block in MASS]
    ratio = attention_ratio(student, attention_mass(absent), TOKENS, 2.0)
    assert ratio.tolist() == pytest.approx([0.25 + 2 * 0.5] * 2)


def test_a_prompt_of_the_concept_alone_has_a_ratio() -> None:
    half = [block / 2 for block in CONCEPT_ALONE]
    alone = TokenSet(TOKENS.concept, TOKENS.context[:, :0])
    ratio = attention_ratio(half, attention_mass(CONCEPT_ALONE), alone, 1.0)
    assert ratio.tolist() == pytest.approx([0.5] * 2)


def test_each_sample_has_a_ratio_of_its_own() -> None:
    uneven = [block * torch.tensor([100.0, 1.0])[:, None, None, None] for block in MASS]
    half = [block * torch.tensor([0.5, 1.0])[:, None, None, None] for block in uneven]
    ratio = attention_ratio(half, attention_mass(uneven), TOKENS, 0.0)
    assert ratio.tolist() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("loss", [attention_ratio, attention_sum])
def test_the_attention_losses_pull_the_concepts_mass_down_everywhere(loss) -> None:
    student = [block.clone().requires_grad_() for block in MASS]
    loss(student, TEACHER_MASS, TOKENS, 0.0).sum().backward()
    for block in student:
        assert block.grad is not None and (block.grad[..., :2] > 0).all()
        assert not block.grad[..., 2:].any()


def test_the_attention_ratio_pulls_up_the_words_that_lost_and_those_alone() -> None:
    student = [block.requires_grad_() for block in scaled(1, 0.5, 1.5)]
    attention_ratio(student, TEACHER_MASS, TOKENS, 1.0).sum().backward()
    for block in student:
        assert block.grad is not None and (block.grad[..., 2] < 0).all()
        assert not block.grad[..., 3].any()


def test_the_attention_sum_is_a_sum_over_heads_queries_and_concept_tokens() -> None:
    ones = [torch.ones(5, 3, 9, 4), torch.ones(5, 3, 9, 4)]
    assert attention_sum(ones, TEACHER_MASS, TOKENS, 1.0).tolist() == [2 * 3 * 9 * 2] * 5


def test_a_feature_is_where_not_how_much() -> None:
    tokens = torch.tensor([[1, 2], [1, -1]])
    mass = [block * (tokens >= 0)[:, None, None] for block in CONCEPT_ALONE]
    feature = attention_feature(mass, tokens)
    assert feature.shape == (2, 6, 9)
    torch.testing.assert_close(feature.mean(dim=-1), torch.zeros(2, 6), rtol=0, atol=1e-6)
    shifted = attention_feature(
        [block + 0.1 * (tokens >= 0)[:, None, None] for block in mass], tokens
    )
    torch.testing.assert_close(shifted, feature, rtol=0, atol=1e-6)
    map_ = mass[0][0].mean(dim=-1)  # two tokens: their mean
    torch.testing.assert_close(feature[0, :3], map_ - map_.mean(dim=-1, keepdim=True))
    map_ = mass[0][1, :, :, 0]  # one token: itself
    torch.testing.assert_close(feature[1, :3], map_ - map_.mean(dim=-1, keepdim=True))


SYNONYM, OTHERS = draw(2, 6, 9, seed=4), draw(2, 3, 6, 9, seed=5)


def rsc(concept: Tensor, temperature: float = 0.5) -> Tensor:
    return rsc_loss(concept, SYNONYM, OTHERS, temperature)


def test_rsc_falls_towards_irrelevant_words_and_rises_towards_the_synonym() -> None:
    start = draw(2, 6, 9, seed=6)
    here = rsc(start)
    for step in (0.3, 0.6, 1.0):
        assert rsc(start.lerp(OTHERS[:, 0], step)) < here
        assert rsc(start.lerp(SYNONYM, step)) > here
    assert (here > 0).all()  # minus the logarithm of a share


def test_rscs_gradient_turns_the_feature_away_from_the_synonym() -> None:
    concept = SYNONYM.clone().add_(draw(2, 6, 9, seed=7)).requires_grad_()
    rsc(concept).backward()
    assert concept.grad is not None
    away = torch.nn.functional.cosine_similarity(concept.detach() - concept.grad, SYNONYM, dim=-1)
    before = torch.nn.functional.cosine_similarity(concept.detach(), SYNONYM, dim=-1)
    assert (away < before).all()


def test_rsc_of_equals_is_the_logarithm_of_how_many_there_are() -> None:
    same = draw(2, 6, 9, seed=8)
    loss = rsc_loss(same, same, same[:, None].expand(-1, 3, -1, -1), 0.07)
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_rsc_does_not_depend_on_how_strong_the_attention_is() -> None:
    concept = draw(2, 6, 9, seed=6)
    torch.testing.assert_close(rsc(1e-3 * concept), rsc(concept))


def test_rsc_stays_finite_at_a_low_temperature() -> None:
    assert math.isfinite(rsc(SYNONYM, temperature=1e-3).item())
