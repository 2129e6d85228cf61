"""Generated config files, options and pictures: each is a job, or an end in words for a person."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from generated import holds, odd_json, odd_letters, odd_text, odd_tree, several
from PIL import Image

from erase_engine.cli import train
from erase_engine.cli.options import Options
from erase_engine.cli.pictures import ENDINGS, read_picture
from erase_engine.prompt_list import read_cases

FILE = {
    "concept": "cat",
    "kind": "object",
    "replacement": "dog",
    "synonyms": ["kitten"],
    "keep": ["a red fox"],
    "prompts": ["a photo of a cat"],
    "pairs": 2,
    "recipe": "fast",
    "steps": 5,
    "batch": 2,
    "learning_rate": 0.01,
    "attention_blocks": [0, 1],
    "guidance": 3.5,
    "weights": {"keep": 2.0},
    "lora": {"rank": 4, "alpha": 2},
    "entrance": {"rounds": 1, "ridge": 0.2},
    "seed": 1,
}
Words = dict[str, list[str]]
PATHS = ("", ".", "/", "..", "a/b", "/dev/null", "/proc/self/mem", "/etc/passwd/a", "~", "a\n")
PATHS += ("x" * 300, "y/" * 3000, "\u202ea", "\x1b[2Ja", "\udcff", "a/", "-", "a.safetensors/b")
OPTIONS = {
    "--model": ["flux"],
    "--concept": ["cat"],
    "--kind": ["object"],
    "--replace-with": ["dog"],
    "--synonyms": ["kitten", "feline"],
    "--keep": ["a red fox", "star"],
    "--prompts": ["a cat"],
    "--recipe": ["fast"],
    "--steps": ["5"],
    "--resolution": ["64"],
    "--seed": ["1"],
    "--out": ["a"],
    "--resume": [],
    "--device": ["cpu"],
    "--dtype": ["float32"],
    "--text-encoders": ["there"],
    "--keep-images": ["pictures"],
}
LECO = {
    **{"target": "cat", "positive": "cat", "neutral": "dog", "unconditional": "dog"},
    **{"action": "erase", "guidance_scale": 2.0, "resolution": [64, 64], "batch_size": 2},
    **{"multiplier": 1.0, "weight": 1, "dynamic_resolution": False, "dynamic_crops": False},
}
LINES = (
    "a: &a [*a]",
    "&a keep: *a",
    "keep: " + "[" * 3000,
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    + "\nkeep: *a11",
    "steps: 0x" + "f" * 5000,
    "0x" + "f" * 5000 + ": 1",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "steps: 2020-01-01",
    "steps: !!python/object/apply:os.system [ls]",
    "concept: !!binary aGVsbG8=",
    "keep: !!set {a, b}",
    "---\nsteps: 1\n---\nsteps: 2",
    "<<: {steps: 3}",
    "steps: .nan",
    "steps: .inf",
    "concept: yes",
    "steps: 1_0",
    "\tsteps: 1",
    "%YAML 9.0\n---",
    'concept: "\\ud800"',
    "null: 1",
    "1.5: {}",
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Gives the command options and the text of a config file; returns the job that it would do."""
    jobs: list[Options] = []

    def run(job: Options, processes: object) -> Path:
        jobs.append(job)
        return job.out

    monkeypatch.setattr(train, "run", run)
    monkeypatch.chdir(tmp_path)

    def give(options: list[str], name: str = "", text: str = "") -> Options:
        jobs.clear()
        for left in tmp_path.iterdir():
            left.unlink()
        if name:
            (tmp_path / name).write_bytes(text.encode(errors="surrogatepass"))
        try:
            train.main(options)
        except SystemExit as end:
            said = capsys.readouterr().err
            if end.code == 2:  # argparse's own
                raise SystemExit(said.split("Error: ", 1)[1].removesuffix("\n")) from None
            raise
        finally:
            left = [each.name for each in tmp_path.iterdir()]
            assert left == [name][: bool(name)]
        return jobs[0]

    return give


def test_config_files(command: Any) -> None:
    def make(rng: Random) -> tuple[str, str]:
        given = {name: value for name, value in FILE.items() if rng.random() < 0.7}
        given = {"concept": "cat", **given}
        if rng.random() < 0.5:
            return "a.json", odd_json(given, rng)
        if rng.random() < 0.6:
            return "a.yaml", yaml.safe_dump(several(odd_tree, rng, given))
        text = yaml.safe_dump(given)
        if rng.random() < 0.4:
            return "a.yaml", rng.choice(
                (f"{rng.choice(LINES)}\n{text}", f"{text}\n{rng.choice(LINES)}")
            )
        return "a.yaml", several(odd_letters, rng, text)

    def give(given: tuple[str, str]) -> None:
        name, text = given
        job = command(["--model", "flux", "--out", "a", "--config", name], name, text)
        values = json.loads(text) if name == "a.json" else yaml.safe_load(text)
        config = json.loads(job.config.to_json())
        for field in config.keys() & values.keys() - {"lora", "weights", "entrance"}:
            assert values[field] == config[field], field
        assert isinstance(asdict(job.request)["concept"], str)

    holds("config file", 350, make, give, told=SystemExit)


def test_other_trainers_files(command: Any) -> None:
    def make(rng: Random) -> str:
        if rng.random() < 0.3:
            given: Any = {"concept": "red", "erase_from": "rose", "keep": ["a red fox"]}
        else:
            entry = {name: value for name, value in LECO.items() if rng.random() < 0.6}
            given = rng.choice(([entry], {"prompts": [entry], "batch_size": 2}, {**entry}))
        return json.dumps(several(odd_tree, rng, given))

    def give(text: str) -> None:
        command(
            ["--model", "flux", "--concept", "red", "--out", "a", "--config", "a.json"],
            "a.json",
            text,
        )

    holds("other trainer's file", 250, make, give, told=SystemExit)


def test_prompt_lists() -> None:
    rows = 'case_number,prompt,evaluation_seed\n1,a cat,2\n2,"a dog, asleep",3\n'

    def make(rng: Random) -> str:
        return several(odd_text, rng, rows)

    def give(text: str) -> None:
        assert all(case.prompt and case.number >= 0 for case in read_cases(text))

    holds("prompt list", 250, make, give)


def test_options(command: Any) -> None:
    def odd_options(given: Words, rng: Random) -> Words:
        name = rng.choice(list(given))
        values, way = given[name], rng.random()
        text = rng.choice(PATHS) if way < 0.2 else odd_text(rng.choice(values or ["a"]), rng)
        text = text.replace("\0", "").replace("\ud800", "\udcff")  # as no system passes it on
        if way < 0.75:
            return {**given, name: [*values[:-1], text]}
        if way < 0.85:
            return {**given, name: [*values, text] if rng.random() < 0.5 else values[:-1]}
        if way < 0.9:
            return {each: some for each, some in given.items() if each != name}
        return {**given, rng.choice(("--config", "--no", "-5", "--", name[:5], text)): [text]}

    def make(rng: Random) -> list[str]:
        names = ["--model", "--concept", "--out", *(name for name in OPTIONS if rng.random() < 0.4)]
        words = several(odd_options, rng, {name: OPTIONS[name] for name in names})
        return [text for name, values in words.items() for text in (name, *values)]

    def give(given: list[str]) -> None:
        job = command(given)
        assert job.out.suffix == ".safetensors" and not job.out.exists()

    holds("options", 250, make, give, told=SystemExit)


def test_pictures(tmp_path: Path) -> None:
    picture, whole = Image.effect_noise((40, 30), 90), {}
    for ending in ENDINGS:
        picture.save(tmp_path / f"a{ending}")
        whole[ending] = (tmp_path / f"a{ending}").read_bytes()

    def odd_bytes(data: bytes, rng: Random) -> bytes:
        at = rng.randrange(min(len(data), rng.choice((64, len(data)))))
        cut, more = at + rng.choice((0, 1, 1, 4, 500)), rng.randbytes(rng.choice((0, 1, 1, 4)))
        return data[:at] + more + data[cut:] if rng.random() < 0.9 else data[: at + 1]

    def make(rng: Random) -> tuple[str, bytes]:
        ending = rng.choice(ENDINGS)
        return ending, several(odd_bytes, rng, whole[ending])

    def give(given: tuple[str, bytes]) -> None:
        path = tmp_path / f"a{given[0]}"
        path.write_bytes(given[1])
        found = read_picture(path, (16, 16))
        assert found.shape == (3, 16, 16) and 0 <= found.min() <= found.max() <= 1

    holds("picture", 100, make, give)
