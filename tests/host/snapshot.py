"""Everything of a MODEL that training could leave changed, and its next picture."""

from __future__ import annotations

import copy
from typing import Any

import comfy.model_management
import comfy.sample
import torch
from eraseanything_pack.erase_engine.interfaces import Conditioning
from tiny_flux import inputs


def snapshot(
    model: Any, cond: Conditioning | None = None, noise: torch.Tensor | None = None
) -> dict[str, Any]:
    """Everything of a MODEL that training could leave changed; its picture's prompt and noise."""
    net = model.model.diffusion_model
    return {
        "picture": sample(
            model, cond, noise
        ),  # first: the host marks modules when it loads a model
        "weights": {k: v.clone() for k, v in model.model.state_dict().items()},
        "identities": [id(p) for p in model.model.parameters()],
        "requires_grad": [p.requires_grad for p in model.model.parameters()],
        "grads": [p.grad is None for p in model.model.parameters()],
        "attributes": {name: sorted(vars(m)) for name, m in net.named_modules()},
        "hooks": sum(_hooks(module) for module in model.model.modules()),
        "options": copy.deepcopy(model.model_options),
        "patches": (dict(model.patches), dict(model.object_patches), dict(model.injections)),
        "training": [module.training for module in net.modules()],
        "in_training": getattr(comfy.model_management, "in_training", None),
        "modes": (torch.is_inference_mode_enabled(), torch.is_grad_enabled()),
    }


def _hooks(module: torch.nn.Module) -> int:
    names = [name for name in vars(module) if name.endswith(("_hooks", "_hooks_with_kwargs"))]
    return sum(len(vars(module)[name]) for name in names)


@torch.inference_mode()
def sample(
    model: Any, cond: Conditioning | None = None, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """What a KSampler would give."""
    usual, _, prompts = inputs(seed=7)
    cond, noise = cond or prompts, usual if noise is None else noise
    pooled = None if cond.pooled is None else cond.pooled[:1]
    positive = [[cond.text[:1], {"pooled_output": pooled, "guidance": 3.0}]]
    args = noise[:1], 2, 1.0, "euler", "simple", positive, positive, torch.zeros_like(noise[:1])
    return comfy.sample.sample(model, *args, disable_pbar=True, seed=1).clone()


def assert_same(before: Any, after: Any) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, after[key]), key
        elif key == "weights":
            assert_same(value, after[key])
        else:
            assert value == after[key], key
