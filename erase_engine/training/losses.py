"""The losses of an erasure: functions of tensors, free of models, devices and settings.

v_S and v_T are the velocities of the student (adapter on) and of the teacher (adapter off), c is a
prompt with the concept, c0 the same with the anchor in its place.
Source: EraseAnything (ICML 2025, arXiv 2412.20413); erase target from ESD (arXiv 2303.07345).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..interfaces import TokenSet

TINY = 1e-12  # under a root, whose slope at 0 is infinite
SMALLEST_MASS = 1e-8  # below this a teacher's attention counts as this, so that ratios stay finite


def esd_target(v_concept: Tensor, v_anchor: Tensor, negative_guidance: float) -> Tensor:
    """v_T(c0) - eta (v_T(c) - v_T(c0)): the anchor, and eta times as far again from the concept.

    All (B, C, h, w). eta = 0 is the anchor's velocity itself (concept ablation).
    """
    return v_anchor - negative_guidance * (v_concept - v_anchor)


def esd_loss(v_student: Tensor, target: Tensor) -> Tensor:
    """L_esd = mean (v_S(x_t, c) - target)^2, (B,); pulls the concept's picture to the anchor's."""
    return _mean_square(v_student, target)


def erase_by_target(v_student: Tensor, v_concept: Tensor, v_anchor: Tensor, eta: float) -> Tensor:
    """L_esd from the teacher's two velocities, (B,)."""
    return esd_loss(v_student, esd_target(v_concept, v_anchor, eta))


def erase_by_hinge(v_student: Tensor, v_concept: Tensor, v_anchor: Tensor, eta: float) -> Tensor:
    """GEM's objective: nearer to the anchor's velocity than eta times as near as to the concept's.

        relu( |v_S(c) - v_T(c0)| - eta |v_S(c) - v_T(c)| ),  | | the root mean square, (B,)

    It is 0 once that holds, and pulls no further. Source: GEM (ICML 2026, arXiv 2606.00140).
    """
    to_anchor, to_concept = (
        (v_student.float() - v.float()).square().mean(dim=(1, 2, 3)).add(TINY).sqrt()
        for v in (v_anchor, v_concept)
    )
    return (to_anchor - eta * to_concept).relu()


def keep_loss(v_student: Tensor, v_teacher: Tensor) -> Tensor:
    """L_keep = mean (v_S(x_t, c_k) - v_T(x_t, c_k))^2, (B,); holds other prompts where they are."""
    return _mean_square(v_student, v_teacher)


def reconstruction_loss(v_student: Tensor, x_0: Tensor, noise: Tensor) -> Tensor:
    """L_lora = mean (v_S(x_t, c_k) - (noise - x_0))^2; teaches pictures x_0 of what is to be kept.

    The flow-matching loss, at x_t = (1 - t) x_0 + t noise. All (B, C, h, w).
    """
    return _mean_square(v_student, noise.to(v_student) - x_0.to(v_student)).mean()


def attention_mass(blocks: Sequence[Tensor]) -> Tensor:
    """(B, W): a sample's attention on each watched token, averaged over blocks, heads and queries.

    `blocks` holds one (B, H, L, W) for each captured block: attention of image queries on tokens.
    """
    return torch.stack([block.mean(dim=(1, 2)) for block in blocks]).mean(dim=0)


def attention_ratio(
    student: Sequence[Tensor], teacher_mass: Tensor, tokens: TokenSet, others: float
) -> Tensor:
    """The concept loses the picture's attention, and the other words of its prompt do not.

        L_attn = m_S(c) / m_T(c) + others mean_w relu(1 - m_S(w) / m_T(w)),   (B,)

    m(c) is the mass on all concept tokens, m(w) that on another token w. The concept's part is 1
    where nothing has changed and 0 where the model is blind to it. Without the second part it
    takes the words beside it along: what encodes "a striped" puts the style into the article, too.

    Args:
        student: blocks, as `attention_mass` takes them, read at `tokens.all`.
        teacher_mass: (B, W), what `attention_mass` gives for the teacher.
        tokens: (B, W) in all, which of them are the concept's.
        others: what the other words count.
    """
    mass_c, mass_w = tokens.split(attention_mass(student))
    teacher_c, teacher_w = tokens.split(teacher_mass.to(student[0]))
    left = mass_c.sum(dim=1) / teacher_c.sum(dim=1).clamp_min(SMALLEST_MASS)
    seen = teacher_w > SMALLEST_MASS  # neither absent nor ignored
    lost = (1 - mass_w / teacher_w.clamp_min(SMALLEST_MASS)).relu() * seen
    return left + others * lost.sum(dim=1) / seen.sum(dim=1).clamp_min(1)


def attention_sum(
    student: Sequence[Tensor], teacher_mass: Tensor, tokens: TokenSet, others: float
) -> Tensor:
    """L_attn of the authors' published code: the concept's mass, over heads and queries, (B,).

    The teacher and the other words are not looked at; the signature is that of `attention_ratio`.
    """
    masses = [tokens.split(block)[0].sum(dim=(1, 2, 3)) for block in student]
    return torch.stack(masses).sum(dim=0)


def attention_feature(blocks: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """F: where in the picture a word is looked for, (B, G, L), G = heads of all blocks.

    The mass on the word's tokens (B, J; -1 is absent), averaged over them, minus its mean over L.
    """
    count = (tokens >= 0).sum(dim=1).clamp_min(1)
    maps = torch.cat([block.sum(dim=-1) for block in blocks], dim=1)  # (B, G, L)
    maps = maps / count.to(maps)[:, None, None]
    return maps - maps.mean(dim=-1, keepdim=True)


def rsc_loss(concept: Tensor, synonym: Tensor, irrelevant: Tensor, temperature: float) -> Tensor:
    """Reverse self-contrast: the concept should look like unrelated words, not like its synonym.

        s(a, b) = cos(a, b) / tau
        L_rsc = -log( sum_k exp s(F_c, F_k) / (exp s(F_c, F_syn) + sum_k exp s(F_c, F_k)) )

    averaged over samples and heads. The paper prints the opposite sign; this is its stated aim.

    Args:
        concept: (B, G, L), the student's, with gradient.
        synonym: (B, G, L), the teacher's.
        irrelevant: (B, K, G, L), the teacher's.
        temperature: tau.
    """
    to_synonym = cosine_similarity(concept, synonym, dim=-1) / temperature  # (B, G)
    to_others = cosine_similarity(concept[:, None], irrelevant, dim=-1) / temperature  # (B, K, G)
    others = to_others.logsumexp(dim=1)
    return (torch.logaddexp(to_synonym, others) - others).mean()


def mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean of the chosen ones of (B,) values; 0 where none is."""
    chosen = chosen.to(values)
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


ERASE_LOSSES = {"esd": erase_by_target, "hinge": erase_by_hinge}
ATTENTION_LOSSES = {"ratio": attention_ratio, "sum": attention_sum}


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ValueError(
            f"Got velocities {tuple(a.shape)} and {tuple(b.shape)}, expected one shape. "
            "Compare the same x_t."
        )
    return (a.float() - b.float()).square().flatten(1).mean(dim=1)
