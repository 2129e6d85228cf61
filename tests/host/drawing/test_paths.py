"""Paths as people have them: spaces, quotes, apostrophes, letters of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import graph
import torch
import yaml
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.lora.file import read_metadata
from eraseanything_pack.nodes.report.prompt_list import DrawPromptList
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from tiny_diffusers import SMALL, save_whole_pipeline
from tiny_flux import build

ODD = "it's \"my\" model's 星 $HOME %s [1]*"
NAME = "Ann's stars/it's a star, no 星 $HOME %s [1]"  # without what Windows can't have


def command(**options: Any) -> None:
    main([text for name, value in options.items() for text in (f"--{name}", str(value))])


def test_the_command_takes_them(tmp_path: Path) -> None:
    odd = tmp_path / ODD
    odd.mkdir()
    model = save_whole_pipeline(odd, build())
    config, prompts, out = odd / "a config.yaml", odd / "a list.csv", odd / 'it\'s "out"'
    small = yaml.safe_load(SMALL) | {"steps": 1}
    config.write_text(yaml.safe_dump(small), encoding="utf-8")
    prompts.write_text("prompt\na red star\n", encoding="utf-8")
    command(model=model, concept="star", config=config, out=out)
    [lora] = odd.glob("*.safetensors")
    assert lora.stem.startswith(out.name) and read_metadata(lora)["concept"] == "star"
    command(draw=prompts, model=model, lora=lora, out=out, steps=1, resolution=64)
    assert [path.name for path in out.iterdir()] == ["0_0.png"]


def test_the_nodes_take_them(loras: Path) -> None:
    model = graph.flux()
    erased = graph.erase(model, recipe="instant", file_name=NAME)[2]
    file = f"{NAME}_00001.safetensors"
    assert (loras / file).is_file()
    applied = graph.apply(model, file=file).args[0]
    assert torch.equal(graph.picture(applied), graph.picture(erased))
    with torch.inference_mode():
        sizes = {"steps": 1, "resolution": 64, "guidance": 1.0, "pictures": 1}
        vae = build_vae(load_weights("vae"))
        DrawPromptList.execute(model, graph.clip(), vae, "prompt\nstar\n", NAME, **sizes)
    root = Path(folder_paths.get_output_directory())
    assert (root / NAME / "0_0.png").is_file()
