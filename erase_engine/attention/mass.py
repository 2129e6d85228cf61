"""How image and single text tokens attend to each other, without a tokens x tokens tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

FRIENDLY = 8  # kernels want widths that are multiples of it


def attention_mass(q: Tensor, k: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """The attention that each query gives to the keys at `tokens`.

        A[b, h, l, j] = softmax_n(q[b, h, l] . k[b, h, n] / sqrt(D))[n = tokens[b, j]]

    Attention is run once more with indicator values, `V[n, j] = 1 where n = tokens[b, j]`: column j
    of its output is that mass. Any fused kernel does, memory is O(L), and it has a gradient.

    Args:
        q: (B, H, L, D) queries, after norm and RoPE.
        k: (B, H, N, D) all keys, text and image.
        tokens: (B, J) key positions; -1 marks an absent token, whose mass is 0.
        mask: added to the scores, or where they count; as wide as (B, H, L, N) once it is spread.

    Returns:
        (B, H, L, J), float32 (float64 for float64 queries).

    Raises:
        ValueError: a position is not below N, or shapes do not fit.
    """
    _check(q, k, tokens)
    width = q.shape[-1]
    chunks = []
    for part in tokens.to(q.device).split(width, dim=1):  # kernels want values as wide as keys
        out = scaled_dot_product_attention(q, k, _indicators(part, k, width), attn_mask=mask)
        chunks.append(out[..., : part.shape[1]])
    mass = torch.cat(chunks, dim=-1)
    return mass.to(torch.promote_types(mass.dtype, torch.float32))


def attention_and_mass(
    q: Tensor, k: Tensor, v: Tensor, tokens: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention's output, and `attention_mass` of the same queries, of one and the same run.

    The indicators are more columns of V; as many zeros for q and k keep the widths alike and change
    no score. That costs a tenth of a second run.

    Args:
        q, k, v: (B, H, N, D), after norm and RoPE.
        tokens: (B, J) key positions; -1 marks an absent token, whose mass is 0.
        mask: added to the scores, or where they count.

    Returns:
        (B, H, N, D) and (B, H, N, J), the latter as `attention_mass` gives it.
    """
    _check(q, k, tokens)
    width, count = q.shape[-1], tokens.shape[1]
    more = -(-count // FRIENDLY) * FRIENDLY
    values = torch.cat([v, _indicators(tokens.to(q.device), k, more)], dim=-1)
    wide_q, wide_k = (pad(each, (0, more)) for each in (q, k))
    out = scaled_dot_product_attention(wide_q, wide_k, values, attn_mask=mask, scale=width**-0.5)
    mass = out[..., width : width + count]
    return out[..., :width], mass.to(torch.promote_types(mass.dtype, torch.float32))


def output_likeness(out: Tensor, tokens: Tensor, image: slice) -> Tensor:
    """How alike the attention outputs of image tokens and of single text tokens are.

        S[b, l, j] = <o[b, image[l]], o[b, tokens[b, j]]> / D

    Averaged over D, not summed, so that wide and narrow models give softmaxes of one sharpness.

    Args:
        out: (B, T + L, D) outputs of joint attention before their projection.
        tokens: (B, J) positions of text tokens; -1 marks an absent token, whose likeness is 0.
        image: the L positions of image tokens.

    Returns:
        (B, L, J), float32 (float64 for float64 outputs).

    Raises:
        ValueError: a position is an image token's, or none of a token.
    """
    wrong = tokens[((tokens >= image.start) & (tokens < image.stop)) | (tokens >= out.shape[1])]
    if len(wrong):
        raise ValueError(
            f"Got token position {int(wrong[0])}, expected text tokens: those at {image.start} to "
            f"{image.stop - 1} are the image's. Count positions in the prompt that was encoded, "
            "-1 for none."
        )
    out = out.to(torch.promote_types(out.dtype, torch.float32))
    tokens = tokens.to(out.device)
    index = tokens.clamp(min=0)[..., None].expand(-1, -1, out.shape[-1])
    words = out.gather(1, index) * (tokens >= 0)[..., None]  # (B, J, D)
    return out[:, image] @ words.mT / out.shape[-1]


def saliency(word: Tensor, contrast: Tensor) -> Tensor:
    """A word's share of each place, against other words: ConceptAttention's map (2025).

        M[l] = exp(word[l]) / (exp(word[l]) + sum_k exp(contrast[l, k]))

    Args:
        word: (L,) likeness of each place to the word.
        contrast: (L, K) likeness to each word it is held against.

    Returns:
        (L,) in 0..1.

    Raises:
        ValueError: fewer than two words to hold it against, where a share says too little.
    """
    if contrast.shape[-1] < 2:
        raise ValueError(
            f"Got {contrast.shape[-1]} contrast words, expected at least 2. Name other words of "
            "the prompt, or look at the training signal."
        )
    return torch.cat([word[:, None], contrast], dim=-1).softmax(dim=-1)[:, 0]


def _indicators(tokens: Tensor, k: Tensor, width: int) -> Tensor:
    """One-hot values: V[b, h, n, j] = 1 where n = tokens[b, j]; (B, H, N, width).

    Padded with zero columns: flash kernels want values as wide as keys.
    """
    values = k.new_zeros(len(tokens), 1, k.shape[2], width)
    present = (tokens >= 0).to(k.dtype)
    values[:, 0, :, : tokens.shape[1]].scatter_(1, tokens.clamp(min=0)[:, None], present[:, None])
    return values.expand(-1, k.shape[1], -1, -1)


def _check(q: Tensor, k: Tensor, tokens: Tensor) -> None:
    if q.ndim != 4 or k.ndim != 4 or tokens.ndim != 2 or not len(q) == len(k) == len(tokens):
        raise ValueError(
            f"Got q {tuple(q.shape)}, k {tuple(k.shape)}, tokens {tuple(tokens.shape)}, expected "
            "(B, H, L, D), (B, H, N, D), (B, J) with one B. Give one row of tokens per sample."
        )
    # On another device its kernels check, and reading the numbers would wait for all before.
    if tokens.device.type == "cpu" and tokens.numel() and int(tokens.max()) >= k.shape[2]:
        raise ValueError(
            f"Got token position {int(tokens.max())}, expected less than {k.shape[2]} keys. "
            "Count positions in the prompt that was encoded, -1 for none."
        )
