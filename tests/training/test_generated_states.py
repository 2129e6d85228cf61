"""Generated files of unfinished trainings: each is gone on from as saved, or it is damaged."""

from __future__ import annotations

from random import Random

from generated import holds
from generated_files import odd_file
from training_runs import CONFIG, folder_in, stopped, train

from erase_engine.cli.unfinished import show_unfinished
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint


def test_unfinished_trainings(small_flow, encoded, tmp_path) -> None:
    """The command refuses them; the node says so and begins anew."""
    root = tmp_path / "a.unfinished"
    stopped(small_flow, encoded, root, CONFIG.steps)  # nothing is left to train
    folder = folder_in(root)
    whole = {name: (folder / name).read_bytes() for name in (STATE, TRAJECTORIES)}

    def make(rng: Random) -> tuple[str, bytes]:
        name = rng.choice((STATE, TRAJECTORIES))
        return name, odd_file(whole[name], rng) if rng.random() < 0.95 else whole[name]

    def give(given: tuple[str, bytes]) -> None:
        for name, data in (*whole.items(), given):
            (folder / name).write_bytes(data)
        assert show_unfinished(["--unfinished", str(root)]).count("\n") == 1
        lenient = Checkpoint(root)
        with lenient.opened(encoded, CONFIG):
            found = lenient.load_trajectories(), lenient.load()
        assert all(found) or lenient.warnings
        assert all(len(each) < 600 and "damaged" in each for each in lenient.warnings)
        try:
            train(small_flow, encoded, Checkpoint(root, strict=True))
        finally:
            assert {each.name for each in folder.iterdir()} == {STATE, TRAJECTORIES}

    holds("unfinished training", 200, make, give)
