"""The headless command's words: options win over the config file, the file over the recipe."""

from __future__ import annotations

import io
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from erase_engine.backends.place import Place
from erase_engine.cli import train
from erase_engine.cli.options import read_options
from erase_engine.config import EraseConfig


@pytest.fixture
def job(tmp_path):
    """Reads a job from options and a config file: `job("--steps", "3", file={"seed": 1})`."""

    def read(*options, file=None, name="config.json", concept="dog"):
        words = ["--model", "flux", "--out", str(tmp_path / "a"), *options]
        if concept:
            words += ["--concept", concept]
        if file is not None:
            path = tmp_path / name
            path.write_text(file if isinstance(file, str) else json.dumps(file))
            words += ["--config", str(path)]
        (found,) = read_options(words)
        return found

    return read


def test_a_name_that_leaves_no_room_for_drafts_is_refused(job):
    longest = "n" * (200 - len(".safetensors"))
    assert job("--out", longest).out.stem == longest
    with pytest.raises(ValueError, match=r"whose name has 201 bytes, of at most 200, expected the"):
        job("--out", longest + "n")


def test_a_console_without_the_letters_costs_nothing(monkeypatch):
    """Windows' own has 256 letters; the file is saved by then."""
    console = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(console, "cp1252", write_through=True))
    train._print("星.safetensors")
    assert console.getvalue() == b"\\u661f.safetensors\n"


def test_without_options_it_is_the_fast_recipe(job):
    found = job()
    assert found.config == EraseConfig.from_recipe("fast")
    assert (found.request.concept, found.request.kind, found.device) == ("dog", "object", "")
    assert found.out.name == "a.safetensors" and found.text_encoders is None


def test_options_go_where_they_belong(job):
    found = job(
        *("--kind", "style", "--replace-with", "cat", "--recipe", "paper", "--steps", "7"),
        *("--resolution", "256", "--seed", "9", "--synonyms", "hound", "puppy dogs"),
        *("--keep", "a red fox", "--prompts", "a dog here", "--text-encoders", "there"),
        *("--keep-images", "pictures"),
    )
    request, config = found.request, found.config
    assert (request.kind, request.replacement, request.seed) == ("style", "cat", 9)
    assert request.synonyms == ("hound", "puppy dogs")
    assert (request.keep, request.prompts) == (("a red fox",), ("a dog here",))
    expected = EraseConfig.from_recipe("paper", steps=7, width=256, height=256, seed=9)
    assert config == expected and found.text_encoders.name == "there"
    assert found.keep_images.name == "pictures"


def test_options_win_over_the_file_and_the_file_over_the_recipe(job):
    file = {"concept": "cat", "recipe": "paper", "steps": 5, "batch": 2, "attention_blocks": [0]}
    found = job("--steps", "6", file=file)
    assert found.request.concept == "dog"
    assert found.config == EraseConfig.from_recipe("paper", steps=6, batch=2, attention_blocks=(0,))


def test_parts_of_weights_and_lora_keep_the_recipes_rest(job):
    file = {"recipe": "paper", "weights": {"keep": 2.0}, "lora": {"rank": 16}}
    config = job(file={**file, "entrance": {"rounds": 7}}).config
    base = EraseConfig.from_recipe("paper")
    assert (config.entrance.rounds, config.entrance.radius) == (7, base.entrance.radius)
    assert (config.weights.keep, config.weights.rsc) == (2.0, base.weights.rsc)
    assert (config.lora.rank, config.lora.alpha, config.lora.init) == (16, 16.0, "gaussian")


def test_yaml_says_the_same_as_json(job):
    text = "concept: cat\nsynonyms: [kitten]\nlora: {rank: 4, alpha: 2}\nguidance: null\n"
    found = job(file=text, name="config.yaml", concept=None)
    same = {"concept": "cat", "synonyms": ["kitten"], "lora": {"rank": 4, "alpha": 2}}
    assert found == job(file={**same, "guidance": None}, concept=None)
    assert found.config.guidance is None and found.config.lora.alpha == 2


WRONG = [
    (
        {"stpes": 3},
        r"Got stpes in the config .*json, expected fields out of steps, .* and 37 more\. Re",
    ),
    ([1], r"Got list in the config .*json, expected an object with fields also_erased, "),
    ("{", r"Got the config .*config\.json that can't be read \(Expecting property"),
    ({"steps": "many"}, "Got steps 'many', expected a whole number from 0"),
    ({"lora": {"rnk": 2}}, "Got rnk for LoraConfig, expected fields out of rank"),
    ({"weights": 3}, "Got int for LossWeights, expected an object with fields esd"),
    ({"recipe": "slow"}, "Got recipe 'slow', expected one of instant, fast"),
    ({"synonyms": "hound"}, "Got 'hound' for synonyms, expected a list"),
]


@pytest.mark.parametrize(("file", "message"), WRONG, ids=[str(file) for file, _ in WRONG])
def test_wrong_config_files_are_named(job, file, message):
    with pytest.raises(ValueError, match=message):
        job(file=file)


def test_broken_yaml_and_missing_files_are_named(job, tmp_path):
    with pytest.raises(ValueError, match=r"config\.yaml that can't be read \(.*line 1"):
        job(file="a: [", name="config.yaml")
    for name in ("deep.json", "deep.yaml"):
        with pytest.raises(ValueError, match=r"that can't be read \(maximum recursion") as error:
            job(file="[" * 100_000, name=name)
        assert len(str(error.value)) < 600
    for name, file in (("a.json", '{"steps": 1, "steps": 2}'), ("a.yaml", "steps: 1\nsteps: 2")):
        with pytest.raises(ValueError, match=r"can't be read \('steps' stands in it twice\)"):
            job(file=file, name=name)
    with pytest.raises(ValueError, match=r"none\.json that can't be read \(.*No such file"):
        job("--config", str(tmp_path / "none.json"))


def test_names_that_cannot_be_written_are_errors(job, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"but .*file is no folder"):
        job("--out", str(tmp_path / "file" / "a"))
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"but .*b\.safetensors exists"):
        job("--out", str(tmp_path / "b"))


def test_names_that_no_file_has_are_errors(job):
    for name in ("", "/", "x" * 300, "y/" * 3000, "\u202e\x1b" * 90):
        with pytest.raises(ValueError, match=r"^Got --out '.*', .*, expected .* Choose") as error:
            job("--out", name if name[0:1] != "\u202e" else f"/dev/null/{name}")
        assert len(str(error.value)) < 400 and str(error.value).isprintable()


def test_what_is_not_ours_ends_the_command_in_a_line(monkeypatch, capsys):
    """Whatever the system says; and a name of bytes that are no letters is told after all work."""
    given = ["--model", "flux", "--concept", "dog", "--out", "a"]
    for error in (OSError(36, "too long", "x" * 9000), ValueError("\u202e\n\x1b")):
        monkeypatch.setattr(train, "run", Mock(side_effect=error))
        with pytest.raises(SystemExit) as end:
            train.main(given)
        assert str(end.value).startswith("Error: ") and len(str(end.value)) < 600
        assert str(end.value).isprintable()
    monkeypatch.setattr(train, "run", lambda *given: Path("a\udcff.safetensors"))
    train.main(given)
    assert capsys.readouterr().out == "a\\udcff.safetensors\n"


def test_a_device_is_no_file_to_write(job):
    with pytest.raises(ValueError, match=r"Got --out '/dev/null', which is a device"):
        job("--out", "/dev/null")


EMPTY = ("--keep-images", "--text-encoders", "--draw a --lora", "--draw a --out", "--unfinished")


@pytest.mark.parametrize("options", EMPTY)
def test_a_path_that_is_empty_is_not_left_out(options, capsys):
    """As of a shell's variable that is not set: pictures of the model without its erasure."""
    with pytest.raises(SystemExit, match="2"):
        train.main([*options.split(), "", *([] if "unf" in options else ["--model=m", "--out=o"])])
    assert ": it is empty), expected" in capsys.readouterr().err


def test_options_that_can_not_be_read_are_named(job, capsys):
    for options, says in (
        (("--kind", "colour"), "argument --kind: invalid choice: 'colour'"),
        (("--steps", "\u202e" * 900), "argument --steps: invalid int value: "),
        (("--stepz\x1b",) * 90, "unrecognized arguments: --stepz  --stepz "),
    ):
        with pytest.raises(SystemExit, match="2"):
            job(*options)
        said = capsys.readouterr().err.split("Error: ")[1]
        assert said.startswith(f"Got options that can't be read ({says}")
        assert said.endswith("expected those of --help. Correct them.\n") and len(said) < 400


def test_texts_are_read_as_the_node_reads_them(job):
    found = job(concept="(dog:1.2)").request
    assert found.concept == "dog" and "weights" in found.notes[0]
    with pytest.raises(ValueError, match="'dog and cat' as one concept"):
        job(concept="dog and cat")


@pytest.fixture
def listed(tmp_path):
    """Reads the jobs of a list: `listed("- concept: cat", "--steps", "3")`."""

    def read(text, *options):
        (tmp_path / "list.yaml").write_text(text)
        given = ["--model", "flux", "--out", str(tmp_path / "all"), *options]
        return read_options([*given, "--erasures", str(tmp_path / "list.yaml")])

    return read


def test_each_of_a_list_has_its_own_fields_and_file(listed, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "red_cube.safetensors").touch()  # done already, and no error
    text = "- {concept: red cube, steps: 9}\n- {concept: Mira, kind: person, file: m, seed: 4}"
    cube, mira = listed(text, "--seed", "3")
    assert (cube.request.concept, cube.config.steps, cube.config.seed) == ("red cube", 9, 3)
    assert (mira.request.kind, mira.config.steps, mira.config.seed) == ("person", 160, 3)
    assert [job.out for job in (cube, mira)] == [
        tmp_path / "all" / f"{name}.safetensors" for name in ("red_cube", "m")
    ]


@pytest.mark.parametrize(
    "text, words",
    [
        ("concept: cat", r"which holds no list, expected one of erasures\. Write each"),
        ("[]", "which holds no list"),
        ("- cat", "Got str in the config"),
        ("- {concept: cat, colour: red}", "Got colour in"),
        ("- kind: object", r"Got the file '' for an erasure, expected a name\. Give"),
        ("- {concept: cat, file: ..}", r"Got the file '\.\.' for an erasure"),
        ("- {concept: cat}\n- {concept: CAT}", "in which cat.safetensors would be written twice"),
        ("- {concept: cat}\n- {concept: cat}", "in which cat.safetensors would be written twice"),
        ("- {concept: cat, steps: -1}", "Got steps -1"),
    ],
)
def test_a_list_is_checked_before_any_work(listed, text, words):
    with pytest.raises(ValueError, match=words):
        listed(text)


def test_entries_of_a_list_may_be_lecos(listed):
    (van_gogh,) = listed("- {target: van gogh, neutral: a painting, file: v}")
    assert (van_gogh.request.concept, van_gogh.out.stem) == ("van gogh", "v")


def run_list(tmp_path, monkeypatch, *concepts):
    """Runs a list whose cat and cow fail, in two processes of which this is the second."""
    (tmp_path / "list.json").write_text(json.dumps([{"concept": each} for each in concepts]))
    errors = {"cat": ValueError("Got no cat, expected one. Add it.")}
    errors["cow"] = torch.cuda.OutOfMemoryError("CUDA out of memory")

    def run(job, processes):
        assert processes.count == 1
        if error := errors.get(job.request.concept):
            raise error
        return job.out

    monkeypatch.setattr(train, "run", run)
    options = ["--model", "flux", "--out", str(tmp_path), "--erasures"]
    train.main([*options, str(tmp_path / "list.json")])


def test_one_that_fails_is_told_and_the_others_are_done(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="Got 2 of 3 erasures that failed, expected none"):
        run_list(tmp_path, monkeypatch, "cat", "cow", "dog")
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/dog.safetensors\n"
    assert said.err.startswith(
        "Error in 'cat': Got no cat, expected one. Add it.\nError in 'cow': "
    )
    assert "Got too little memory (CUDA out of memory), expected room" in said.err


def test_each_process_takes_its_own_of_a_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    run_list(tmp_path, monkeypatch, "cat", "dog", "cow", "fox")
    assert capsys.readouterr().out == f"{tmp_path}/dog.safetensors\n{tmp_path}/fox.safetensors\n"


def test_what_is_there_is_not_done_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "cat.safetensors").touch()
    run_list(tmp_path, monkeypatch, "cat")
    assert capsys.readouterr().out == f"{tmp_path}/cat.safetensors\n"


def test_several_processes_can_not_have_one_device(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = ["--model", "flux", "--concept", "cat", "--out", str(tmp_path / "a")]
    with pytest.raises(SystemExit, match=r"^Process 0: Error: Got --device cuda:1 for several"):
        train.main([*options, "--device", "cuda:1"])


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_a_cpu_computes_in_float32(name):
    assert Place.named(name, "").dtype == torch.float32
