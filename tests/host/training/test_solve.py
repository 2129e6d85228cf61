"""The closed form in the real tiny model: what it moves, what it leaves, and that it repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.closed_form.entrance import Entrances
from eraseanything_pack.erase_engine.closed_form.text_rows import AT_ONCE
from eraseanything_pack.erase_engine.concepts.planner import plan_concept, plan_together
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.training.checkpoint import Checkpoint
from eraseanything_pack.erase_engine.training.cost import expected_forwards
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts, encode_prompts
from eraseanything_pack.erase_engine.training.loop import Erasure, StepReport, train_erasure
from eraseanything_pack.erase_engine.training.solvers.schedule import SETTLED
from eraseanything_pack.erase_engine.training.solvers.solve import HARDENED, TEMPERED
from eraseanything_pack.nodes.host.encode import encoder_for, ordinary_tensors
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.load import load_tiny
from eraseanything_pack.tinyworld.models import FLUX_CONFIG, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from safetensors.torch import load_file
from tiny_diffusers import backend_of
from tiny_flux import build

TEXT, POOLED = "context_embedder", "time_text_embed.text_embedder.linear_1"
SMALL = {"trajectories": 4, "keep_trajectories": 4, "batch": 2, "keep_per_step": 2}
MOST_MOVED = 0.08  # of a held token, on average, in its own length
Tiny = tuple[Any, Any]


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return load_tiny("Flux")[:2]


def encoded(tiny: Tiny, concept: str = "star", dtype: torch.dtype = torch.float32) -> Any:
    request = ConceptRequest(concept=concept, kind="object")
    with ordinary_tensors():
        encoder = encoder_for(tiny[1])
        plan = plan_concept(request, encoder, vocabulary=TINY_WORLD)
        return encode_prompts(plan, encoder, contrast=False, solve=True, dtype=dtype)


@pytest.fixture(scope="module")
def star(tiny: Tiny) -> EncodedPrompts:
    return encoded(tiny)


def config(recipe: str, **changes: Any) -> EraseConfig:
    made = EraseConfig.from_recipe(recipe, width=128, height=128)
    if made.steps:
        small = {"rounds": 2, "searches": 3, "tempering": 2, "soft": 10.0}
        made = replace(made, entrance=replace(made.entrance, **small))
        made = replace(made, **{**SMALL, "steps": 8, **changes})
    return made


def train(model: Any, given: EncodedPrompts, wanted: EraseConfig, **options: Any) -> Erasure:
    generator = torch.Generator().manual_seed(wanted.seed)
    with torch.inference_mode(), training_session(model) as backend:
        return train_erasure(backend, given, wanted, generator=generator, **options)


def change(state: dict[str, torch.Tensor], name: str = TEXT) -> torch.Tensor:
    """B A of one adapter, its strength inside."""
    down = state[f"{name}.lora_A.weight"]
    strength = state[f"{name}.alpha"] / len(down)
    return strength * state[f"{name}.lora_B.weight"] @ down


@pytest.fixture(scope="module")
def hardened(tiny: Tiny, star: EncodedPrompts) -> Erasure:
    """A training that nothing has stopped."""
    return train(tiny[0], star, config("fast"))


def test_the_concepts_tokens_go_to_the_anchors_and_what_is_held_stays(
    tiny: Tiny, star: EncodedPrompts
) -> None:
    """By no pass of the model, at the two Linears where text enters, whose weights stay."""
    net = tiny[0].model.diffusion_model
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    done = train(tiny[0], star, config("instant"))
    assert done.forwards == 0
    assert {key.split(".lora_")[0] for key in done.state if ".lora_" in key} == {TEXT, POOLED}
    assert star.entrance is not None
    rows, weight = star.entrance.text, net.txt_in.weight.float()
    wanted = (rows.anchor - rows.concept)[rows.own] @ weight.T
    made = rows.concept[rows.own] @ change(done.state).T
    assert (wanted - made).square().sum() < 0.3 * wanted.square().sum()
    moved = (rows.held @ change(done.state).T).norm(dim=1)
    assert (moved / (rows.held @ weight.T).norm(dim=1)).mean() < MOST_MOVED
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())


@pytest.mark.parametrize("recipe", ["instant", "fast"])
def test_the_same_seed_gives_the_same_bits(
    tiny: Tiny, star: EncodedPrompts, hardened: Erasure, recipe: str
) -> None:
    other = train(tiny[0], star, config(recipe))
    one = hardened if recipe == "fast" else train(tiny[0], star, config(recipe))
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(one.state[key], other.state[key]) for key in one.state)


@pytest.mark.parametrize("step", [2, 3, 7], ids=["in a round", "between rounds", "tempering"])
def test_it_goes_on_where_it_was_stopped(
    tiny: Tiny, star: EncodedPrompts, hardened: Erasure, tmp_path: Path, step: int
) -> None:
    def stop(report: StepReport) -> None:
        if report.losses and report.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny[0], star, config("fast"), checkpoint=Checkpoint(tmp_path), on_step=stop)
    resumed = train(tiny[0], star, config("fast"), checkpoint=Checkpoint(tmp_path))
    assert all(torch.equal(hardened.state[key], resumed.state[key]) for key in hardened.state)
    assert hardened.history == resumed.history and hardened.forwards == resumed.forwards


def test_the_attack_brings_the_concept_back(tiny: Tiny, star: EncodedPrompts) -> None:
    """Within a round, whose solution stays, its searches come nearer to the concept's velocity."""
    searching = config("fast", steps=20, batch=8)
    searching = replace(searching, entrance=replace(searching.entrance, rounds=1, searches=20))
    held_out = train(tiny[0], star, searching).history["attack"]
    assert sum(held_out[-5:]) < 0.9 * sum(held_out[:5])


def test_what_fails_to_bring_the_concept_back_joins_nothing(
    tiny: Tiny, star: EncodedPrompts
) -> None:
    def solution(holds: float) -> torch.Tensor:
        wanted = config("fast", steps=6)
        entrance = replace(wanted.entrance, holds=holds, tempering=0)
        return change(train(tiny[0], star, replace(wanted, entrance=entrance)).state)

    alone = change(train(tiny[0], star, config("instant")).state)
    assert torch.equal(solution(0.0), alone)
    assert (solution(100.0) - alone).norm() > 0.01 * alone.norm()


def test_a_style_is_tempered_however_far_it_is_moved(tiny: Tiny, star: EncodedPrompts) -> None:
    wanted = config("fast")
    firm = replace(wanted, entrance=replace(wanted.entrance, soft=0.0))
    ended = [train(tiny[0], replace(star, kind=kind), firm).ended for kind in ("object", "style")]
    assert ended == [HARDENED, TEMPERED]


def test_attacks_begin_at_the_way_back_from_the_solution(
    tiny: Tiny, star: EncodedPrompts, tmp_path: Path
) -> None:
    """From the model's own weights, and not from those with the last solution on them."""

    def stop(report: StepReport) -> None:
        if report.losses and report.step == 3:  # the first round's end
            raise KeyboardInterrupt

    numbers = config("fast")
    with pytest.raises(KeyboardInterrupt):
        train(tiny[0], star, numbers, checkpoint=Checkpoint(tmp_path), on_step=stop)
    states = [load_file(path) for path in tmp_path.rglob("*.safetensors")]
    kept = {key.rpartition(".")[2]: each for state in states for key, each in state.items()}
    assert star.entrance is not None
    with torch.inference_mode(), training_session(tiny[0]) as backend:
        solution = Entrances(backend, star.entrance, numbers.entrance, rank=numbers.lora.rank)
        solution.solve()
        solution.solve(kept["found"][0])
        expected = solution.text.undoing()
    assert (kept["undoing"] - expected).norm() < 1e-3 * expected.norm()


def test_a_phrase_is_trained_behind_the_entrance(tiny: Tiny) -> None:
    """Its words each stay in other company, so that no closed form of tokens can serve."""
    phrase = encoded(tiny, "red star")
    with torch.inference_mode(), training_session(tiny[0]) as backend:
        own, rank = config("fast").entrance, config("fast").lora.rank
        solution = Entrances(backend, phrase.entrance, own, rank=rank)  # type: ignore[arg-type]
        solution.solve()
        assert solution.unsolved > own.most_unsolved
        closed = solution.text.up @ solution.text.down
    wanted = config("fast", steps=40, entrance=replace(own, phrase_settled=0.8))
    done, limit = train(tiny[0], phrase, wanted), wanted.after_solving()
    steps = len(done.history["esd"])
    assert {"esd", "keep"} == done.history.keys() and done.ended == SETTLED
    assert 0.4 * limit.steps < steps < limit.steps
    saved = (limit.steps - steps) * 3 * (limit.batch + limit.keep_per_step)
    assert done.forwards == expected_forwards(phrase, limit, guided=False) - saved
    assert any("attn" in key for key in done.state)
    if f"{TEXT}.alpha" in done.state:
        assert (change(done.state) - closed).norm() > 0.5 * closed.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_a_smaller_dtype_gives_nearly_the_same(
    tiny: Tiny, star: EncodedPrompts, dtype: torch.dtype
) -> None:
    """Features of the dtype that the model computes in, and its own weights, rounded."""
    compute = torch.float32 if dtype.itemsize == 1 else dtype
    expected = change(train(tiny[0], star, config("instant")).state)
    state = {key: each.to(dtype) for key, each in load_weights("flux").items()}
    small = build(dtype, compute=compute, sizes=FLUX_CONFIG)
    with torch.inference_mode():
        small.model.diffusion_model.load_state_dict(state)
    assert ComfyFlowModel(small).dtype == compute
    found = change(train(small, encoded(tiny, dtype=compute), config("instant")).state)
    assert found.isfinite().all()
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_both_hosts_give_one_solution(tiny: Tiny, star: EncodedPrompts) -> None:
    found = train(tiny[0], star, config("instant"))
    with backend_of(tiny[0]).session() as backend:
        generator = torch.Generator().manual_seed(0)
        theirs = train_erasure(backend, star, config("instant"), generator=generator)
    for name in (TEXT, POOLED):
        error = (change(theirs.state, name) - change(found.state, name)).norm()
        assert error < 1e-4 * change(found.state, name).norm()


class WithoutPooled:
    """A text encoder of a family that has no pooled vector."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.asked: list[int] = []

    def parts(self, *given: Any) -> Any:
        return self._encoder.parts(*given)

    def positions(self, *given: Any) -> tuple[int, ...]:
        return self._encoder.positions(*given)

    def encode(self, prompts: Any, **options: Any) -> Conditioning:
        self.asked.append(len(prompts))
        found = self._encoder.encode(prompts, **options).prompts
        return Conditioning(tuple(replace(each, pooled=None) for each in found))


@pytest.fixture(scope="module")
def unpooled(tiny: Tiny) -> tuple[EncodedPrompts, list[int]]:
    """Prompts of *star* without pooled vectors, and how many were encoded in each call."""
    with ordinary_tensors():
        plan = plan_concept(
            ConceptRequest(concept="star"), encoder_for(tiny[1]), vocabulary=TINY_WORLD
        )
        encoder = WithoutPooled(encoder_for(tiny[1]))
        made = encode_prompts(plan, encoder, contrast=False, solve=True)  # type: ignore[arg-type]
    return made, encoder.asked


def test_without_a_pooled_vector_the_tokens_entrance_alone_is_solved(
    tiny: Tiny, star: EncodedPrompts, unpooled: tuple[EncodedPrompts, list[int]]
) -> None:
    assert unpooled[0].entrance is not None and unpooled[0].entrance.pooled is None
    wanted = config("instant")
    alone = train(tiny[0], unpooled[0], wanted).state
    both = train(tiny[0], star, wanted).state
    assert {key.split(".lora_")[0] for key in alone if ".lora_" in key} == {TEXT}
    assert torch.equal(change(alone), change(both))


def test_held_sentences_are_encoded_some_at_a_time_and_only_rows_of_them_are_kept(
    unpooled: tuple[EncodedPrompts, list[int]],
) -> None:
    made, asked = unpooled
    first, *held = asked  # the plan's own prompts at once, then what is held
    assert sum(held) > 200 and max(held) == AT_ONCE < first
    assert made.entrance is not None
    rows = made.entrance.text.held
    assert rows.untyped_storage().nbytes() == rows.nbytes  # no view of what was encoded
    assert len(rows) < (sum(held) + first) * len(made.keep.prompts[0].text)


def test_several_concepts_share_what_is_kept_and_have_rank_for_all(tiny: Tiny) -> None:
    """Of each of eight as much goes as of one alone, within what their tokens tell apart."""
    names = {"star": "object", "heart": "object", "red": "style", "above": "relation"}
    requests = [ConceptRequest(concept=name, kind=kind) for name, kind in names.items()]  # type: ignore[arg-type]
    with ordinary_tensors():
        encoder = encoder_for(tiny[1])
        plan = plan_together(requests, encoder, vocabulary=TINY_WORLD)
        given = encode_prompts(plan, encoder, contrast=False, solve=True)
    wanted = config("instant")
    done = train(tiny[0], given, wanted)
    assert len(done.state[f"{TEXT}.lora_A.weight"]) == len(names) * wanted.lora.rank
    with torch.inference_mode(), training_session(tiny[0]) as backend:
        shared, alone = (
            Entrances(backend, given.entrance, each.entrance, rank=each.lora.rank)  # type: ignore[arg-type]
            for each in (wanted.for_concepts(len(names)), wanted)
        )
        shared.solve()
        alone.solve()
    assert shared.unsolved < 0.14 < 0.75 * alone.unsolved
