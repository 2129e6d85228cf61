"""Trains the tiny text encoders: `python scripts/make_weights.py text`.

T5 learns to say, from its token features alone, what each named thing is and how they stand: a
handful of learned questions attend to the tokens and are classified. CLIP learns only what a
pooled vector is good for, the layout and the background. Both are frozen afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import CLIP_CONFIG, TEXT_TOKENS, save_weights
from .data import CLIP_END, tokenize
from .worlds import captions, world_of, world_parser

NOT_SAID = -1  # in place of an answer


class Reader(nn.Module):
    """Answers each question about a caption by one learned attention over its token features."""

    def __init__(self, questions: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(questions), width))
        self.answers = nn.ModuleDict({name: nn.Linear(width, n) for name, n in questions.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        weights = (self.queries @ features.transpose(1, 2) / features.shape[-1] ** 0.5).softmax(-1)
        read = weights @ features  # (B, questions, width)
        return {name: answer(read[:, i]) for i, (name, answer) in enumerate(self.answers.items())}


def build_t5(config: Mapping[str, Any]) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(**config, feed_forward_proj="gated-gelu", dropout_rate=0.0, use_cache=False)
    )


def build_clip() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(**CLIP_CONFIG, hidden_act="quick_gelu", eos_token_id=CLIP_END)
    )


def loss_of(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
    """Sum of the questions' cross entropies; what is not said is not asked."""
    losses = [
        nn.functional.cross_entropy(answer, truth[name], ignore_index=NOT_SAID)
        for name, answer in answers.items()
        if (truth[name] != NOT_SAID).any()
    ]
    return torch.stack(losses).sum()


def percent_right(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Of each question, where it is answered."""
    right = {name: answer.argmax(-1) == truth[name] for name, answer in answers.items()}
    seen = {name: hits[truth[name] >= 0].float().mean().item() for name, hits in right.items()}
    return {name: round(100 * share, 1) for name, share in seen.items()}


def state_for_comfyui(t5: nn.Module, clip: nn.Module) -> dict[str, Tensor]:
    """Both encoders' weights by ComfyUI's names.

    Its pooled vector passes through a projection, which is made to do nothing.
    """
    state = {f"t5xxl.{key}": value for key, value in t5.state_dict().items()}
    state.pop("t5xxl.encoder.embed_tokens.weight", None)  # the same tensor as "shared"
    state |= {f"clip_l.text_model.{key}": value for key, value in clip.state_dict().items()}
    state["clip_l.text_projection.weight"] = torch.eye(CLIP_CONFIG["hidden_size"])
    return state


def main(arguments: Sequence[str]) -> None:
    parser = world_parser(__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--captions", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    world = world_of(options.world)
    torch.manual_seed(options.seed)

    scenes = world.told(options.captions, options.seed)
    texts = captions(world, scenes, options.seed)
    t5_ids, clip_ids = tokenize(texts, TEXT_TOKENS)
    said = [world.answers(scene, text) for scene, text in zip(scenes, texts, strict=True)]
    asked = {**world.questions, **world.pooled}
    truth = {name: torch.tensor([one.get(name, NOT_SAID) for one in said]) for name in asked}

    t5, clip = build_t5(world.t5), build_clip()
    reader = Reader(world.questions, world.t5["d_model"])
    width = CLIP_CONFIG["hidden_size"]
    pooled_reader = nn.ModuleDict({name: nn.Linear(width, n) for name, n in world.pooled.items()})
    modules = nn.ModuleList([t5, clip, reader, pooled_reader])
    optimizer = torch.optim.Adam(modules.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, options.steps, pct_start=0.1)
    start = time.time()
    for step in range(options.steps):
        rows = torch.randint(0, options.captions, (192,))
        answers = reader(t5(input_ids=t5_ids[rows]).last_hidden_state)
        text_loss = loss_of(answers, {name: truth[name][rows] for name in answers})
        pooled = clip(input_ids=clip_ids[rows, :26]).pooler_output
        guesses = {name: layer(pooled) for name, layer in pooled_reader.items()}
        pooled_loss = loss_of(guesses, {name: truth[name][rows] for name in guesses})
        optimizer.zero_grad()
        (text_loss + pooled_loss).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == options.steps - 1:
            right = percent_right(answers, {name: truth[name][rows] for name in answers})
            print(f"{step} {time.time() - start:.0f}s {text_loss:.3f} {pooled_loss:.3f} {right}")

    made = {"made_by": "python scripts/make_weights.py text", **vars(options)}
    made |= {"torch": torch.__version__}
    print(save_weights("text", state_for_comfyui(t5, clip), made, world.folder))
