"""All nodes on every family that the demo does not load, with the host's own encoders and VAEs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.wan.vae
import comfy.sd
import comfy.utils
import folder_paths
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.nodes.attention.preview import GUIDANCE
from eraseanything_pack.nodes.attention.watch import WatchAttention
from eraseanything_pack.nodes.lora.merge import MergeErasures
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.tinyworld.load import load_tiny
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from families.encoders import CLIPS, DEV, KLEIN_9B, WIDTHS, family_of
from families.nets import NETS, Net
from snapshot import assert_same, snapshot
from watching import guided, masses, same_as_preview, seen

import nodes as host_nodes

PROMPT = graph.PROMPT
NAMES = {"FLUX.2": "flux2-klein", KLEIN_9B: "flux2-klein", DEV: "flux2-dev", "Lumina 2": "lumina2"}
NET_OF = {family: NAMES.get(family, family.lower()) for family in CLIPS}
ERASE = {"targets": "text_in_pooled", "steps": 4, "resolution": 64, "rank": 4}


@pytest.fixture(scope="module", params=list(CLIPS))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def clip(family: str) -> Any:
    with torch.inference_mode():
        made = CLIPS[family]()
    made.tokenizer.eraseanything_vocabulary = TINY_WORLD  # of few words
    return graph.remembering(made)


@pytest.fixture
def model(family: str) -> Any:
    return NETS[NET_OF[family]].build(text=WIDTHS[family])


@pytest.fixture(scope="module")
def vae(family: str) -> Any:
    """The host's own, in small, where it builds one so small: of 16 channels."""
    net = NETS[NET_OF[family]]
    if net.channels != 16:
        return None
    if not net.framed:
        return build_vae(load_weights("vae"))
    small = {"dim": 8, "z_dim": 16, "temperal_downsample": [False, True, True]}
    state = comfy.ldm.wan.vae.WanVAE(**small).state_dict()
    return comfy.sd.VAE(sd=state)


@torch.inference_mode()
def encoded(clip: Any, prompt: str = PROMPT) -> Any:
    (found,) = host_nodes.CLIPTextEncode().encode(clip, prompt)
    return found


@torch.inference_mode()
def drawn(model: Any, net: Net, positive: Any, negative: Any, cfg: float = 2.0) -> Any:
    """A stock KSampler's LATENT, guided."""
    side = 64 // net.pixels
    shape = (1, net.channels, 1, side, side) if net.framed else (1, net.channels, side, side)
    empty = {"samples": torch.zeros(shape)}
    (latent,) = host_nodes.KSampler().sample(
        model, 0, 2, cfg, "euler", "simple", positive, negative, empty
    )
    return latent


def same_look(model: Any, clip: Any, net: Net, vae: Any = None) -> None:
    """What Watch Attention sees of a stock sampler's picture is Attention Map Preview's."""
    with torch.inference_mode():
        patched, positive, eye = WatchAttention.execute(
            model, clip, prompt=PROMPT, words=graph.LOOK["words"]
        ).args
        if not net.cfg:  # the model's own input
            positive = guided(positive)
        latent = drawn(patched, net, positive, encoded(clip, ""), GUIDANCE if net.cfg else 1.0)
    found = seen(eye, latent, vae=vae)
    assert len(masses(found)) == 2 and min(masses(found)) > 0.1 and "star" in found.args[1]
    assert found.args[0].std() > 0
    same_as_preview(found, model, clip_=clip, vae=vae)


def saved(loras: Path) -> list[str]:
    """The files' names, as the nodes' lists have them."""
    folder_paths.filename_list_cache.pop("loras", None)
    return sorted(path.relative_to(loras).as_posix() for path in loras.rglob("*.safetensors"))


def test_a_concept_is_erased_and_the_file_is_what_was_trained(
    family: str, model: Any, clip: Any, loras: Path
) -> None:
    """Saved, listed, applied by ours and by core's loader: one picture."""
    x, _, _ = NETS[NET_OF[family]].inputs()
    noise = x[:, :, None] if NETS[NET_OF[family]].framed else x
    cond = Conditioning.stacked(encoded(clip)[0][0])
    before = snapshot(model, cond, noise)
    lora, _, erased, report = graph.erase(model, clip, **ERASE)
    assert_same(before, snapshot(model, cond, noise))
    (name,) = saved(loras)
    plain, mine, *others = (
        drawn(each, NETS[NET_OF[family]], encoded(clip), encoded(clip, ""))["samples"]
        for each in (
            model,
            erased,
            graph.apply(model, lora=lora).args[0],
            graph.apply(model, file=name).args[0],
            host_nodes.LoraLoaderModelOnly().load_lora_model_only(model, name, 1.0)[0],
        )
    )
    assert (mine - plain).norm() > 1e-3 * plain.norm()
    for other in others:
        torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-4)
    assert "star" in report
    assert ("is experimental" in report) == (family in ("Z-Image", "Lumina 2"))


def test_attention_is_looked_at_as_it_is_sampled(
    family: str, model: Any, clip: Any, vae: Any, loras: Path
) -> None:
    same_look(model, clip, NETS[NET_OF[family]], vae)


def test_attention_of_sd3_is_looked_at_in_both_parts_of_its_text(loras: Path) -> None:
    model, clip, vae = load_tiny("SD3.5")
    same_look(model, clip, NETS["sd3"], vae)


@pytest.mark.thorough  # with the tiny Flux they are tested beside their nodes
def test_report_and_merge(family: str, model: Any, clip: Any, vae: Any, loras: Path) -> None:
    for concept in ("star", "circle"):
        *_, erased, _ = graph.erase(
            model, clip, **{**ERASE, "concept": concept, "synonyms": "", "steps": 2}
        )
    with torch.inference_mode():
        if vae is not None:
            widgets = {"erase_prompts": PROMPT, "keep_prompts": "a dog", "steps": 2, "seed": 0}
            image, told = ErasureReport.execute(
                model, erased, clip, vae, **widgets, resolution=64
            ).args
            assert image.std() > 0 and told
        first, second = saved(loras)
        files = {"file_1": first, "file_2": second}
        for method in (
            "fuse",
            "sum",
        ):  # what random features can't be told apart by can't be solved
            merged, _ = MergeErasures.execute(
                method, "", model, clip, **files, strength_1=1.0, strength_2=1.0
            ).args
            assert graph.apply(model, lora=merged).args[0] is not model


def test_other_models_text_encoders_are_refused(family: str, clip: Any) -> None:
    """Before any work, by name: a Flux would read nothing in them, or fail inside of torch."""
    flux = NETS["flux"].build(text=WIDTHS[family])
    expected = (
        f"Got a clip of {family_of(family)} and a model of Flux, expected .* with DualCLIPLoader"
    )
    with pytest.raises(ValueError, match=expected):
        graph.erase(flux, clip, **ERASE)
    with pytest.raises(ValueError, match=expected):
        graph.look(flux, clip)


def test_a_text_encoder_of_the_familys_other_size_is_refused(family: str, clip: Any) -> None:
    """At the first sentence: FLUX.2 [klein] has one of 4B and one of 9B."""
    model = NETS[NET_OF[family]].build(text=WIDTHS[family] + 16)
    asked: list[Any] = []
    own = clip.encode_from_tokens
    clip.encode_from_tokens = lambda *args, **given: (asked.append(args), own(*args, **given))[1]
    expected = f"gives {WIDTHS[family]} numbers for a token, .* {WIDTHS[family] + 16}: models of"
    for run in (lambda: graph.erase(model, clip, **ERASE), lambda: graph.look(model, clip)):
        asked.clear()
        with pytest.raises(ValueError, match=expected):
            run()
        assert len(asked) == 1


def test_layers_that_a_family_lacks_are_refused_before_any_work() -> None:
    model, clip = NETS["z-image"].build(text=WIDTHS["Z-Image"]), CLIPS["Z-Image"]()
    asked: list[str] = []
    clip.encode_from_tokens = lambda *args, **kwargs: asked.append("encoded")
    with pytest.raises(
        ValueError, match=r"Got target 'dual_qk', .* for a Z-Image model\. Choose text_in\."
    ):
        graph.erase(model, clip, **{**ERASE, "targets": "dual_qk"})
    assert not asked
