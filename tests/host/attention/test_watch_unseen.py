"""When nobody looks nothing is watched: in the host's own queue and executor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import graph
import pytest
import server
from comfy_extras.nodes_sd3 import EmptySD3LatentImage
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention
from eraseanything_pack.nodes.demo import LoadTinyFlux
from pack_nodes import Host
from watching import counted_looks

import nodes as host_nodes


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


def prompt_graph(*, looking: bool, seed: int = 0) -> dict[str, Any]:
    """A workflow in the host's form: a watched sampler, and what shows what was seen."""
    sampling = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    found = {
        "tiny": ("EraseAnythingTinyFlux", {}),
        "watch": (
            "EraseAnythingWatch",
            {"model": ["tiny", 0], "clip": ["tiny", 1], "prompt": graph.PROMPT, "words": "star"},
        ),
        "empty": ("EmptySD3LatentImage", {"width": 128, "height": 128, "batch_size": 1}),
        "sampler": (
            "KSampler",
            {
                **sampling,
                "seed": seed,
                "denoise": 1.0,
                "model": ["watch", 0],
                "positive": ["watch", 1],
                "negative": ["watch", 1],
                "latent_image": ["empty", 0],
            },
        ),
        "decode": ("VAEDecode", {"samples": ["sampler", 0], "vae": ["tiny", 2]}),
        "preview": ("PreviewImage", {"images": ["decode", 0]}),
    }
    if looking:
        link = {"watch": ["watch", 2], "latent": ["sampler", 0], "picture": 1}
        found["watched"] = ("EraseAnythingWatched", link)
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in found.items()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    for node in (LoadTinyFlux, WatchAttention, WatchedAttention, EmptySD3LatentImage):
        name = node.GET_SCHEMA().node_id
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, node)
    made = Host()
    yield made
    made.loop.close()


def test_when_nobody_looks_nothing_is_watched(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither attention nor even a clone; who comes later to look has the sampler draw again."""
    looks = counted_looks(monkeypatch)
    host.run(prompt_graph(looking=False))
    assert not looks
    host.run(prompt_graph(looking=True))
    assert len(looks) == 3  # double blocks, one step
    host.run(prompt_graph(looking=True))
    assert len(looks) == 3  # all of it is cached
    host.run(prompt_graph(looking=True, seed=1))
    assert len(looks) == 6
    host.run(prompt_graph(looking=False, seed=2))
    assert len(looks) == 6
