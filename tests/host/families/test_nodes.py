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
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention
from eraseanything_pack.nodes.lora.merge import MergeErasures
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from families.encoders import CLIPS, DEV, WIDTHS, family_of
from families.nets import NETS
from snapshot import assert_same, snapshot

import nodes as host_nodes

PROMPT = graph.PROMPT
FLUX_2 = {"FLUX.2": "flux2-klein", DEV: "flux2-dev"}
NET_OF = {family: FLUX_2.get(family, family.lower()) for family in CLIPS}
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
def drawn(model: Any, family: str, positive: Any, negative: Any) -> dict[str, torch.Tensor]:
    """A stock KSampler's LATENT, guided."""
    net = NETS[NET_OF[family]]
    side = 64 // net.pixels
    shape = (1, net.channels, 1, side, side) if net.framed else (1, net.channels, side, side)
    empty = {"samples": torch.zeros(shape)}
    (latent,) = host_nodes.KSampler().sample(
        model, 0, 2, 2.0, "euler", "simple", positive, negative, empty
    )
    return latent


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
        drawn(each, family, encoded(clip), encoded(clip, ""))["samples"]
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
    assert ("is experimental" in report) == (family == "Z-Image")


def test_attention_is_looked_at_as_it_is_sampled(
    family: str, model: Any, clip: Any, vae: Any, loras: Path
) -> None:
    """The preview's map of a stock sampler's picture is what Watch Attention sees of it."""
    looking = {"prompt": PROMPT, "words": "star\nred"}
    with torch.inference_mode():
        patched, positive, eye = WatchAttention.execute(model, clip, **looking).args
        latent = drawn(patched, family, positive, encoded(clip, ""))
        sheet, masses = WatchedAttention.execute(eye, latent, 1, vae=vae).args
    assert sheet.std() > 0
    shares = [line for line in masses.splitlines() if "star" in line]
    assert shares and "0.00%" not in shares[0]
    image, told = graph.look(model, clip, **looking, vae=vae)
    assert image.std() > 0 and "star" in told


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
