"""Adapters: nothing when disabled, the exact sum when enabled, nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from erase_engine.families.flux import FLUX
from erase_engine.interfaces import LinearSlice
from erase_engine.lora.adapters import LoraSet


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(6, 12)


def slices_of(layer):
    return {"q": LinearSlice(layer, 0, 4, 6), "v": LinearSlice(layer, 8, 4, 6)}


def lora_on(layer, **options):
    generator = torch.Generator().manual_seed(options.pop("seed", 1))
    return LoraSet(slices_of(layer), generator=generator, **{"rank": 2, **options})


def randomise(lora):
    generator = torch.Generator().manual_seed(5)
    for parameter in lora.parameters():
        parameter.data.normal_(generator=generator)


def test_new_set_changes_no_value(layer):
    x = torch.randn(3, 5, 6)
    expected = layer(x)
    lora = lora_on(layer)
    with lora.attach(slices_of(layer)):
        assert torch.equal(layer(x), expected)


def test_output_is_base_plus_update_on_its_rows(layer):
    x = torch.randn(3, 5, 6)
    lora = lora_on(layer, alpha=6.0)
    randomise(lora)
    state = lora.state_dict()
    expected = layer(x).detach()
    for name, rows in (("q", slice(0, 4)), ("v", slice(8, 12))):
        delta = state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"] * (6.0 / 2)
        expected[..., rows] += x @ delta.T
    with lora.attach(slices_of(layer)):
        found = layer(x)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[..., 4:8], layer(x)[..., 4:8])  # rows without an adapter: bit for bit


def test_disabled_equals_base_bit_for_bit(layer):
    x = torch.randn(3, 6)
    expected = layer(x)
    lora = lora_on(layer)
    randomise(lora)
    with lora.attach(slices_of(layer)):
        with lora.disabled(), lora.disabled():
            assert torch.equal(layer(x), expected)
        assert not torch.equal(layer(x), expected)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_on_the_module(layer, fails):
    lora = lora_on(layer)
    try:
        with lora.attach(slices_of(layer)), lora.disabled():
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not layer._forward_hooks
    randomise(lora)
    with lora.attach(slices_of(layer)):  # `disabled` ended too
        assert not torch.equal(layer(torch.ones(1, 6)), nn.Linear.forward(layer, torch.ones(1, 6)))


def test_output_keeps_the_dtype_of_the_linear(layer):
    layer.to(torch.bfloat16)
    lora = lora_on(layer)
    randomise(lora)
    x = torch.randn(4, 6).bfloat16()
    with lora.attach(slices_of(layer)):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in lora.parameters())
    update = (
        x.float() @ (lora.state_dict()["q.lora_B.weight"] @ lora.state_dict()["q.lora_A.weight"]).T
    )
    expected = (layer(x)[:, :4].float() + update).bfloat16()  # rounded once
    torch.testing.assert_close(found[:, :4], expected, rtol=8e-3, atol=1e-3)


def test_base_weights_are_neither_read_nor_written(layer):
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return x.repeat(1, 2)

    opaque = Opaque()
    slices = {"a": LinearSlice(opaque, 3, 5, 6)}
    lora = LoraSet(slices, rank=2, generator=torch.Generator().manual_seed(0))
    randomise(lora)
    with lora.attach(slices):
        out = opaque(torch.ones(1, 6))
    assert out.shape == (1, 12) and torch.equal(out[:, :3], torch.ones(1, 3))


def test_same_seed_same_adapters(layer):
    one, other, third = lora_on(layer), lora_on(layer), lora_on(layer, seed=2)
    key = "q.lora_A.weight"
    assert torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], third.state_dict()[key])


def test_initial_spread():
    wide = nn.Linear(4000, 8)
    slices = {"q": LinearSlice(wide, 0, 8, 4000)}
    for init, std in (("kaiming", 4000**-0.5 / 3**0.5), ("gaussian", 1 / 4)):
        lora = LoraSet(slices, rank=4, generator=torch.Generator().manual_seed(0), init=init)
        a, b = (parameter.detach() for parameter in lora.parameters())
        assert float(a.std()) == pytest.approx(std, rel=0.03)
        assert not b.any()


def test_state_loads_back(layer):
    lora, other = lora_on(layer), lora_on(layer, seed=9)
    randomise(lora)
    other.load_state_dict(lora.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(lora.parameters(), other.parameters(), strict=True)
    )


def test_state_without_alphas_means_alpha_equals_rank(layer):
    bare = {k: v for k, v in lora_on(layer).state_dict().items() if not k.endswith("alpha")}
    lora_on(layer).load_state_dict(bare)
    with pytest.raises(ValueError, match=r"differs in \['q.alpha'"):
        lora_on(layer, alpha=5.0).load_state_dict(bare)


@pytest.mark.parametrize("change", [{"rank": 3}, {"alpha": 9.0}])
def test_foreign_state_is_refused(layer, change):
    with pytest.raises(ValueError, match="differs in"):
        lora_on(layer).load_state_dict(lora_on(layer, **change).state_dict())
    with pytest.raises(ValueError, match="differs in"):
        lora_on(layer).load_state_dict({})


def test_bad_arguments_say_what_to_do(layer):
    lora = lora_on(layer)
    with pytest.raises(ValueError, match="Got no slice for"):
        lora.attach({"q": slices_of(layer)["q"]}).__enter__()
    both = {"q": LinearSlice(layer, 0, 6, 6), "v": LinearSlice(layer, 4, 6, 6)}
    with pytest.raises(ValueError, match="overlapping rows"):
        lora.attach(both).__enter__()
    assert not layer._forward_hooks
    with pytest.raises(ValueError, match="Got rank 0"):
        lora_on(layer, rank=0)
    with pytest.raises(ValueError, match="Got target 'text'"):
        FLUX.target_names("text", 2)


def test_target_names():
    assert FLUX.target_names("text_qk", 2) == [
        "transformer_blocks.0.attn.add_q_proj",
        "transformer_blocks.0.attn.add_k_proj",
        "transformer_blocks.1.attn.add_q_proj",
        "transformer_blocks.1.attn.add_k_proj",
    ]
    assert FLUX.target_names("text_pooled", 19)[-1] == "time_text_embed.text_embedder.linear_2"
    assert len(FLUX.target_names("text_qk", 19)) * 2 == 76  # tensors of the authors' published file
