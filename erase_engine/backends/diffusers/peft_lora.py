"""The engine's adapters put on a diffusers model by peft, instead of by hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from peft import LoraConfig, inject_adapter_in_model

from ...interfaces import LinearSlice
from ...lora.adapters import LoraSet
from ..frozen import frozen

ADAPTER = "eraseanything"


class PeftLora(LoraSet):
    """y += (alpha / rank) * B A x, computed by peft's own layers on `LoraSet`'s parameters.

    `attach` injects a `peft.LoraConfig`, `disabled` is peft's switch. Parameters, their start
    from a generator and the state are `LoraSet`'s: a training cannot tell the two apart.

    Args:
        net: the diffusers model that the slices are of.
        slices: canonical name -> a whole Linear of `net`.
        numbers: `LoraSet`'s keyword arguments.
    """

    def __init__(self, net: Any, slices: Mapping[str, LinearSlice], **numbers: Any) -> None:
        super().__init__(slices, **numbers)
        self.net = net

    @contextmanager
    def attach(self, slices: Mapping[str, LinearSlice]) -> Iterator[PeftLora]:
        """peft's layers stand in these Linears' places for the time of the `with`.

        Raises:
            ValueError: the model has adapters already; peft's switch would switch them off, too.
        """
        others = sorted(getattr(self.net, "peft_config", {}))
        if others:
            raise ValueError(
                f"Got a model with the adapters {others}, expected none. "
                "Fuse them with fuse_lora(), or remove them with unload_lora()."
            )
        with frozen(self.net), _no_new_attributes(self.net):  # peft leaves both behind
            try:
                self._inject()
                yield self
            finally:
                for name in self._down:
                    self.net.set_submodule(name, slices[name].module)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The teacher: attached modules give their own output, bit for bit."""
        was_enabled = self._enabled
        with super().disabled():
            self._switch(False)
            try:
                yield
            finally:
                self._switch(was_enabled)

    def _switch(self, on: bool) -> None:
        if self.net._hf_peft_config_loaded:
            (self.net.enable_adapters if on else self.net.disable_adapters)()

    def _inject(self) -> None:
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type] # peft divides it by r, whole or not
            target_modules=list(self._down),
        )
        # On the meta device: peft's own start would draw from torch's global generator.
        inject_adapter_in_model(config, self.net, ADAPTER, low_cpu_mem_usage=True)
        self.net._hf_peft_config_loaded = True  # diffusers' mark that there is what to switch
        for name in self._down:
            layer = self.net.get_submodule(name)
            layer.lora_A[ADAPTER].weight = self._down[name]
            layer.lora_B[ADAPTER].weight = self._up[name]
        self._switch(self._enabled)


@contextmanager
def _no_new_attributes(net: Any) -> Iterator[None]:
    before = set(vars(net))
    try:
        yield
    finally:
        for name in set(vars(net)) - before:
            delattr(net, name)
