"""Trains the tiny text encoders: `python -m tinyworld.make.text`.

T5 learns to say, from its token features alone, what each named thing is and how they stand: a
handful of learned questions attend to the tokens and are classified. CLIP learns only what a
pooled vector is good for, the layout and the background. Both are frozen afterwards.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from ..models import CLIP_CONFIG, T5_CONFIG, TEXT_TOKENS, save_weights
from ..vocabulary import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, STYLES
from .data import CLIP_END, captions, labels, random_scenes, tokenize
from .host import use_comfyui

QUESTIONS = {
    "relation": len(RELATIONS) + 1,
    "background": len(BACKGROUNDS),
    **{f"shape{i}": len(SHAPES) for i in (0, 1)},
    **{f"colour{i}": len(COLOURS) for i in (0, 1)},
    **{f"style{i}": len(STYLES) for i in (0, 1)},
}


class Reader(nn.Module):
    """Answers each question about a caption by one learned attention over its token features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), width))
        self.answers = nn.ModuleList(nn.Linear(width, n) for n in QUESTIONS.values())

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        weights = (self.queries @ features.transpose(1, 2) / features.shape[-1] ** 0.5).softmax(-1)
        read = weights @ features  # (B, questions, width)
        return {
            name: answer(read[:, i])
            for i, (name, answer) in enumerate(zip(QUESTIONS, self.answers, strict=True))
        }


def build_t5() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(**T5_CONFIG, feed_forward_proj="gated-gelu", dropout_rate=0.0, use_cache=False)
    )


def build_clip() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(**CLIP_CONFIG, hidden_act="quick_gelu", eos_token_id=CLIP_END)
    )


def loss_of(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
    """Sum of the questions' cross entropies; what is not there (-1) is not asked."""
    losses = [
        nn.functional.cross_entropy(answers[name], truth[name], ignore_index=-1) for name in answers
    ]
    return torch.stack(losses).sum()


def percent_right(answers: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Of each question, where there is something to see."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--captions", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    use_comfyui()
    torch.manual_seed(options.seed)

    scenes = random_scenes(options.captions, options.seed)
    t5_ids, clip_ids = tokenize(captions(scenes, options.seed, TEXT_TOKENS), TEXT_TOKENS)
    truth = labels(scenes, len(RELATIONS))
    layout = torch.tensor([0, 0, 1, 1, 2, 3])[truth["relation"]]

    t5, clip = build_t5(), build_clip()
    reader = Reader(T5_CONFIG["d_model"])
    pooled_reader = nn.Linear(CLIP_CONFIG["hidden_size"], 4 + len(BACKGROUNDS))
    modules = nn.ModuleList([t5, clip, reader, pooled_reader])
    optimizer = torch.optim.Adam(modules.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, options.steps, pct_start=0.1)
    start = time.time()
    for step in range(options.steps):
        rows = torch.randint(0, options.captions, (192,))
        answers = reader(t5(input_ids=t5_ids[rows]).last_hidden_state)
        text_loss = loss_of(answers, {name: truth[name][rows] for name in answers})
        pooled = clip(input_ids=clip_ids[rows, :26]).pooler_output
        guess = pooled_reader(pooled)
        pooled_loss = nn.functional.cross_entropy(guess[:, :4], layout[rows])
        pooled_loss += nn.functional.cross_entropy(guess[:, 4:], truth["background"][rows])
        optimizer.zero_grad()
        (text_loss + pooled_loss).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == options.steps - 1:
            right = percent_right(answers, {name: truth[name][rows] for name in answers})
            print(f"{step} {time.time() - start:.0f}s {text_loss:.3f} {pooled_loss:.3f} {right}")

    path = save_weights(
        "text",
        state_for_comfyui(t5, clip),
        {"made_by": "python -m tinyworld.make.text", **vars(options), "torch": torch.__version__},
    )
    print(path)


if __name__ == "__main__":
    main()
