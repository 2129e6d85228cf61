"""What Erase Concept and Concept Plan ask for: their inputs, and widgets in the engine's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from comfy_api.latest import io

from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.concepts.request import ConceptRequest
from ...erase_engine.concepts.vocabulary import KINDS
from ...erase_engine.config import RECIPES, EraseConfig, LoraConfig, Targets
from ...erase_engine.families.registry import models_of
from ...erase_engine.validation import check_choice, told
from ..host.checked import our_own
from ..host.widgets import advanced, checked_resolution, lines, resolution, seed, text

FAST = EraseConfig.from_recipe("fast")
# Defaults of version 0.1: in a workflow of then they were nobody's choice either.
OLD_DEFAULTS = {"steps": 160, "targets": "text_pooled", "batch": 8}


@dataclass(frozen=True)
class Planned:
    """A plan on its way from Concept Plan, and what was asked for; nothing, where it was edited."""

    requests: tuple[ConceptRequest, ...]
    plan: ConceptPlan


PlanType = our_own("ERASE_PLAN", Planned)


def model_inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip=f"{models_of('comfy')}; or a tiny model."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to the model."),
    ]


def concept_inputs() -> list[Any]:
    return [
        text(
            "concept",
            "What the model shall no longer draw, as you'd write it in a prompt. One thing: for "
            "several, join Concept Plans; a name with 'and' or a comma goes in quotes.",
        ),
        io.Combo.Input(
            "kind",
            options=list(KINDS),
            default="object",
            tooltip="Decides in which sentences the concept is practised. Colours are styles.",
        ),
        text("replace_with", "What should appear instead. Empty: the planner chooses."),
        lines("synonyms", "Other words for the concept, one a line or with commas; erased too."),
        lines(
            "keep",
            "Concepts or prompts that must not change, one a line. Weights as in (cat:1.2) are "
            "left out.",
        ),
        advanced(
            lines(
                "prompts",
                "Your own sentences with the concept, one a line; weights are left out.",
            )
        ),
    ]


def training_inputs() -> list[Any]:
    return [
        resolution(
            "Width and height in pixels of what is trained on. 512 is enough for FLUX; "
            "128 for the tiny models.",
            default=FAST.width,
        ),
        advanced(
            io.Int.Input(
                "steps",
                default=FAST.steps,
                min=1,
                max=10_000,
                tooltip="At most so many steps, more for a phrase (fast: half as many again, "
                "hardened: twice as many). Both end by themselves; instant takes none.",
            )
        ),
        advanced(seed("The same inputs and seed give the same file.")),
        text(
            "file_name",
            "The LoRA's name in models/loras; empty: EraseAnything/<concept>. "
            "A number is added, nothing is overwritten.",
        ),
        io.Combo.Input(
            "recipe",
            options=list(RECIPES),
            default="fast",
            tooltip="fast: solves the erasure where text enters the model, hardens it against "
            "attacks, and trains where that does not do, as for phrases. hardened: fast, then "
            "trains under attack what was solved, and phrases for longer; harder to bring back, a "
            "little less clean. instant: solves it and stops there; seconds, and soft: attacks "
            "bring it back. paper: as published, about 15,000 passes of the model, with its "
            "release mended: contrast has the sign that the paper describes, tokens are found in "
            "each prompt, all heads count, the teacher has no LoRA, and pictures of what is to be "
            "kept take the place of pictures of the concept. What you leave at its default is the "
            "recipe's own.",
        ),
        *map(advanced, _expert_inputs()),
    ]


def _expert_inputs() -> list[Any]:
    return [
        io.Float.Input(
            "negative_guidance",
            default=FAST.negative_guidance,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="How far past the replacement training pushes the model. 0 stops at it; what "
            "is solved always does.",
        ),
        io.Int.Input(
            "rank",
            default=FAST.lora.rank,
            min=1,
            max=256,
            tooltip="Rank of the LoRA. With fast and hardened, a phrase gets twice as much.",
        ),
        io.Combo.Input(
            "targets",
            options=list(get_args(Targets)),
            default=FAST.lora.targets,
            tooltip="Which layers are trained; instant, fast and hardened add those by which text "
            "enters. text_pooled: all by which text reaches the picture. text_qk: query and key of "
            "the text, as published.",
        ),
        io.Int.Input(
            "batch",
            default=FAST.batch,
            min=1,
            max=64,
            tooltip="Pictures in one step; fast and hardened take twice as many for what can't be "
            "solved, as phrases.",
        ),
        io.Int.Input(
            "preview_every",
            default=20,
            min=0,
            max=10_000,
            tooltip="Steps between two previews, where a VAE is connected; also once it is solved, "
            "and at the end. 0 draws none. They don't change the result.",
        ),
        io.Boolean.Input(
            "resume",
            default=True,
            tooltip="Goes on where this very training was cancelled; off: begins anew.",
        ),
    ]


def optional_inputs() -> list[Any]:
    return [
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="Shows pictures before, now and with the replacement; encodes keep_images.",
        ),
        PlanType.Input(
            "plan", optional=True, tooltip="From Concept Plan; used instead of the concept above."
        ),
        io.Image.Input(
            "keep_images",
            optional=True,
            tooltip="For the recipe paper: pictures of what must not change. Whole sentences in "
            "keep, one a line, are their captions, in the order of the pictures; needs a vae. "
            "Without them the model draws its own.",
        ),
    ]


def recipe_fault(recipe: object) -> str:
    """What is wrong with a recipe, "" for nothing; older workflows may name others.

    None is a linked input, which is not known before the node runs.
    """
    if recipe is None or recipe in tuple(RECIPES):
        return ""
    return (
        f"Got recipe {told(recipe)}, expected one of {', '.join(RECIPES)}. Choose fast; "
        "esd, ablate and gem are for comparison only now, in benchmarks/."
    )


def request_of(widgets: dict[str, Any]) -> ConceptRequest:
    return ConceptRequest.from_text(
        widgets["concept"],
        kind=widgets["kind"],
        replacement=widgets["replace_with"],
        synonyms=widgets["synonyms"],
        keep=widgets["keep"],
        prompts=widgets["prompts"],
        seed=widgets["seed"],
    )


def config_of(widgets: dict[str, Any]) -> EraseConfig:
    """What the widgets ask for; one that was left at its default means the recipe's own value."""
    check_choice("recipe", widgets["recipe"], tuple(RECIPES))
    own = EraseConfig.from_recipe(widgets["recipe"])
    side = checked_resolution(widgets["resolution"])

    def asked(name: str, ours: Any = FAST, its: Any = own) -> Any:
        untouched = widgets[name] in (getattr(ours, name), OLD_DEFAULTS.get(name))
        return getattr(its, name) if untouched else widgets[name]

    batch = asked("batch")  # of both halves of a step, in every recipe
    return EraseConfig.from_recipe(
        widgets["recipe"],
        negative_guidance=asked("negative_guidance"),
        steps=asked("steps") if own.steps else 0,  # a limit, where there are steps
        batch=batch,
        keep_per_step=batch,
        width=side,
        height=side,
        seed=widgets["seed"],
        lora=LoraConfig(
            rank=asked("rank", FAST.lora, own.lora),
            targets=asked("targets", FAST.lora, own.lora),
            init=own.lora.init,
        ),
    )
