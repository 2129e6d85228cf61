"""Captured mass is the dense softmax's column, likeness that of outputs; nothing is tokens^2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.attention.mass import (
    attention_and_mass,
    attention_mass,
    output_likeness,
    saliency,
)
from eraseanything_pack.erase_engine.backends.blocks import AttentionCall, BlockAttention, Spans
from eraseanything_pack.erase_engine.backends.comfy import attention as comfy_attention
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning
from eraseanything_pack.nodes.host.session import training_session
from tiny_flux import build, capture, inputs
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

HEAD_DIM = 16


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense_mass(q: torch.Tensor, k: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    index = tokens.clamp(min=0)[:, None, None].expand(-1, *attention.shape[1:3], -1)
    return attention.gather(-1, index) * (tokens >= 0)[:, None, None]


@pytest.mark.parametrize("count", [1, 3, HEAD_DIM, HEAD_DIM + 5], ids=lambda j: f"{j}_tokens")
def test_mass_and_its_gradient_equal_the_dense_softmax(count: int) -> None:
    q = draw(2, 3, 9, HEAD_DIM).requires_grad_()
    k = draw(2, 3, 30, HEAD_DIM, seed=1).requires_grad_()
    tokens = torch.stack([torch.randperm(30)[:count], torch.randperm(30)[:count]])
    tokens[1, -1] = -1
    weights = draw(2, 3, 9, count, seed=2)
    found, expected = attention_mass(q, k, tokens), dense_mass(q, k, tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not found[1, ..., -1].any()
    grads = [torch.autograd.grad((each * weights).sum(), (q, k)) for each in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.bool], ids=["added", "where"])
@pytest.mark.parametrize("shape", [(2, 3, 9, 30), (2, 1, 1, 30), (1, 1, 9, 30)], ids=str)
def test_a_mask_counts_in_the_mass(kind: torch.dtype, shape: tuple[int, ...]) -> None:
    q, k, v = draw(2, 3, 9, HEAD_DIM), *(draw(2, 3, 30, HEAD_DIM, seed=n) for n in (1, 2))
    tokens, added = torch.tensor([[4, 7], [0, -1]]), draw(*shape, seed=3)
    mask = added > 0 if kind == torch.bool else added
    mask[..., 4], mask[..., 7] = (0 if kind == torch.bool else float("-inf")), 1
    scores = q @ k.mT / HEAD_DIM**0.5
    scores = scores.masked_fill(~mask, float("-inf")) if kind == torch.bool else scores + mask
    attention = scores.softmax(-1)
    expected = torch.stack([attention[0][..., [4, 7]], attention[1][..., [0, 0]]])
    expected[1, ..., 1] = 0
    torch.testing.assert_close(attention_mass(q, k, tokens, mask), expected)
    out, mass = attention_and_mass(q, k, v, tokens, mask)
    torch.testing.assert_close(mass, expected)
    torch.testing.assert_close(out, attention @ v)
    assert not expected[0, ..., 0].any() and expected[0, ..., 1].any()


def test_plain_attention_takes_every_layout_and_mask() -> None:
    q, k, v = (draw(2, 6, 3, 8, seed=seed) for seed in range(3))  # (B, N, H, D)
    mask = draw(6, 6, seed=4)
    heads = [each.transpose(1, 2) for each in (q, k, v)]
    attention = (heads[0] @ heads[1].mT / 8**0.5 + mask).softmax(-1) @ heads[2]
    rows = attention.transpose(1, 2).flatten(2)
    plain = comfy_attention.plain_attention
    torch.testing.assert_close(plain(q, k, v, 3, mask), rows)
    torch.testing.assert_close(plain(*(each.flatten(2) for each in (q, k, v)), 3, mask), rows)
    torch.testing.assert_close(plain(*heads, 3, mask[None], skip_reshape=True), rows)
    given = {"skip_reshape": True, "skip_output_reshape": True}
    torch.testing.assert_close(plain(*heads, 3, mask[None, None], **given), attention)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "another's"])
@pytest.mark.parametrize("skipped", ["", "skip_output_reshape"], ids=["rows", "heads"])
def test_a_look_leaves_the_layout_that_the_caller_asked_for(skipped: str, alone: bool) -> None:
    """Both ways to the mass and the outputs: with the attention, and by a second run."""
    q, k, v = (draw(1, 3, 10, 8, seed=seed) for seed in range(3))
    given = {"skip_reshape": True, **({skipped: True} if skipped else {})}
    request = AttentionCapture(torch.tensor([[1]]), (0,), outputs=True)
    look = BlockAttention(request, Spans(text=slice(0, 4), image=slice(4, 10)))
    override = (
        comfy_attention.alone if alone else lambda *args, **kw: comfy_attention.alone(*args, **kw)
    )
    out = comfy_attention.looked_at(override, look)(None, q, k, v, 3, **given)
    torch.testing.assert_close(out, comfy_attention.plain_attention(q, k, v, 3, **given))
    rows = comfy_attention.plain_attention(q, k, v, 3, skip_reshape=True)
    torch.testing.assert_close(look.found[0], dense_mass(q[:, :, 4:], k, request.tokens))
    expected = output_likeness(rows, request.tokens, slice(4, 10))
    torch.testing.assert_close(look.found[1], expected)


@pytest.mark.parametrize("samples", [slice(None), [1]], ids=["all", "second"])
def test_a_second_run_for_the_mass_has_the_calls_own_mask(samples: slice | list[int]) -> None:
    """Maps of a masked prompt, where another node's override computes its attention."""
    q, k, v = (draw(2, 3, 10, 8, seed=seed) for seed in range(3))
    mask = torch.ones(2, 1, 10, 10, dtype=torch.bool)
    mask[1, ..., 0] = False
    asked = AttentionCapture(torch.zeros(2, 1).long()[samples], (0,))
    look = BlockAttention(asked, Spans(text=slice(0, 4), image=slice(4, 10)), samples)
    look(AttentionCall(q, k, v, mask, lambda: q.transpose(1, 2).flatten(2), False))
    assert not look.found[0][-1].any()


def test_mass_over_all_tokens_is_one() -> None:
    mass = attention_mass(draw(1, 2, 4, 8), draw(1, 2, 20, 8), torch.arange(20)[None])
    torch.testing.assert_close(mass.sum(-1), torch.ones(1, 2, 4))


def test_absent_and_no_tokens() -> None:
    q, k = draw(2, 1, 4, 8), draw(2, 1, 6, 8)
    assert not attention_mass(q, k, torch.full((2, 2), -1)).any()
    assert attention_mass(q, k, torch.zeros(2, 0, dtype=torch.long)).shape == (2, 1, 4, 0)


def test_wrong_tokens_are_named() -> None:
    q, k = draw(1, 1, 4, 8), draw(1, 1, 6, 8)
    with pytest.raises(ValueError, match="Got token position 6, expected less than 6"):
        attention_mass(q, k, torch.tensor([[6]]))
    with pytest.raises(ValueError, match="Give one row of tokens per sample"):
        attention_mass(q, k, torch.tensor([[1], [2]]))


def test_bfloat16_mass_is_float32() -> None:
    q, k, tokens = draw(1, 2, 4, 8), draw(1, 2, 6, 8), torch.tensor([[2]])
    found = attention_mass(q.bfloat16(), k.bfloat16(), tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, attention_mass(q, k, tokens), rtol=0.05, atol=0.01)


def test_likeness_is_the_mean_product_of_outputs() -> None:
    out, tokens = draw(2, 3 + 5, 6), torch.tensor([[0, 2], [1, -1]])
    found = output_likeness(out, tokens, slice(3, 8))
    assert found.shape == (2, 5, 2)
    for row, place, column in ((0, 0, 0), (0, 4, 1), (1, 2, 0)):
        expected = (out[row, 3 + place] * out[row, tokens[row, column]]).mean()
        torch.testing.assert_close(found[row, place, column], expected)
    assert not found[1, :, 1].any()
    assert output_likeness(out.bfloat16(), tokens, slice(3, 8)).dtype == torch.float32


def test_likeness_is_of_text_tokens_only() -> None:
    with pytest.raises(
        ValueError,
        match="Got token position 3, expected text tokens: those at 3 to 7 are the image's",
    ):
        output_likeness(draw(1, 8, 6), torch.tensor([[3]]), slice(3, 8))


def test_saliency_is_a_share_among_words() -> None:
    likeness = draw(7, 3)
    shares = [
        saliency(likeness[:, at], likeness[:, [other for other in range(3) if other != at]])
        for at in range(3)
    ]
    torch.testing.assert_close(sum(shares), torch.ones(7))
    torch.testing.assert_close(shares[0], likeness.softmax(dim=-1)[:, 0])


def test_saliency_needs_two_words_to_hold_a_word_against() -> None:
    with pytest.raises(ValueError, match="Got 1 contrast words, expected at least 2"):
        saliency(draw(7), draw(7, 1))


def test_mass_that_comes_with_the_attention_is_that_of_a_second_run() -> None:
    """And so are the output and the gradients, for fewer and for more tokens than columns."""
    for count in (2, 11):
        q, k, v = (draw(2, 3, 20, 16, seed=seed).requires_grad_() for seed in range(3))
        tokens = torch.stack([torch.arange(count), torch.arange(count)]) + 3
        tokens[1, -1] = -1
        both = attention_and_mass(q, k, v, tokens)
        apart = scaled_dot_product_attention(q, k, v), attention_mass(q, k, tokens)
        grads = []
        for out, mass in (both, apart):
            loss = out.square().sum() + 5 * (mass * mass.detach().cos()).sum()
            grads += torch.autograd.grad(loss, (q, k, v))
        torch.testing.assert_close(both, apart)
        torch.testing.assert_close(grads[:3], grads[3:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 2], ids=["double", "single"])
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_captured_likeness_is_that_of_the_blocks_outputs(
    checkpointing: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the output projection, and only where it was asked for; mass can be left out."""
    seen: list[torch.Tensor] = []
    plain = comfy_attention.plain_attention

    def recording(*args: Any, **options: Any) -> torch.Tensor:
        seen.append(plain(*args, **options))
        return seen[-1]

    x_t, t, cond = inputs()
    asked, unasked, alone = capture(block), capture(block), capture(block)
    asked.outputs = alone.outputs = True
    alone.masses = False
    with training_session(build(), checkpointing=checkpointing) as backend, torch.no_grad():
        backend.velocity(x_t, t, cond, capture=unasked)
        monkeypatch.setattr(comfy_attention, "plain_attention", recording)
        backend.velocity(x_t, t, cond, capture=alone)
        backend.velocity(x_t, t, cond, capture=asked)
    assert not unasked.likeness and list(asked.likeness) == [block]
    expected = output_likeness(seen[block], asked.tokens, slice(5, 5 + 6))
    torch.testing.assert_close(asked.likeness[block], expected)
    assert torch.equal(asked.mass[block], unasked.mass[block])
    assert not alone.mass and torch.equal(alone.likeness[block], expected)


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_capture_has_one_graph_and_only_chosen_blocks(checkpointing: bool) -> None:
    request = capture(1)
    x_t, t, cond = inputs()
    text = cond.text.requires_grad_()
    cond = Conditioning.stacked(text, cond.pooled)
    with training_session(build(), checkpointing=checkpointing) as backend:
        backend.velocity(x_t, t, cond, capture=request)
        (grad,) = torch.autograd.grad(request.mass[1].sum(), text)
    assert list(request.mass) == [1]
    assert request.mass[1].shape == (2, 2, 6, 2)
    assert grad.abs().sum() > 0


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned, forward or backward."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_flatten(out)[0]:
            if isinstance(leaf, torch.Tensor):
                self.largest = max(self.largest, leaf.numel())
        return out


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_no_tensor_grows_with_the_square_of_tokens(checkpointing: bool) -> None:
    """The largest tensor of a step grows with the number of tokens, not with its square."""
    sizes = {}
    with training_session(build(), checkpointing=checkpointing) as backend:
        for side in (16, 32):  # 256 and 1024 image tokens
            sizes[side] = _largest(backend, side)
    assert sizes[32] < 4.2 * sizes[16]
    assert sizes[32] < 1024 * 1024 / 4  # one head's tokens x tokens, were it ever made


def _largest(backend: Any, side: int) -> int:
    _, _, cond = inputs()
    text = cond.text[:1].clone().requires_grad_()
    request = AttentionCapture(torch.tensor([[1, 3]]), (0, 1), outputs=True)
    with LargestTensor() as seen:
        x_t, t = draw(1, 16, 2 * side, 2 * side), torch.tensor([0.5])
        v = backend.velocity(x_t, t, Conditioning.stacked(text, cond.pooled[:1]), capture=request)
        (v.sum() + sum(mass.sum() for mass in request.mass.values())).backward()
    return seen.largest


def test_the_measure_sees_a_dense_softmax() -> None:
    with LargestTensor() as seen:
        dense_mass(draw(1, 1, 300, 8), draw(1, 1, 300, 8), torch.tensor([[1]]))
    assert seen.largest >= 300 * 300
