"""The processes of one launch: `accelerate launch -m erase_engine ...` starts several.

All of them do the same work on the same random numbers, and share out the samples of each pass.
What they tell each other goes through accelerate; the main one alone speaks and writes files.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..training.checkpoint import Checkpoint, SavedTrajectories
from ..training.last_state import Snapshot
from ..validation import shortened

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """How many there are, which one this is (from 0), and the device that is its own."""

    count: int = 1
    index: int = 0
    device: str = ""  # "" chooses

    @property
    def main(self) -> bool:
        """Whether this one speaks and writes files."""
        return self.index == 0

    def gathered(self, own: Tensor) -> Tensor:
        """Every process's rows, in their order; each has as many."""
        from accelerate.utils import gather

        return _answered(lambda: gather(own.contiguous()))

    def mean(self, own: Tensor) -> Tensor:
        """The mean of what each process has."""
        from accelerate.utils import reduce

        return _answered(lambda: reduce(own, "mean"))

    def from_main(self, found: _T) -> _T:
        """What the main process has found."""
        if self.count == 1:
            return found
        from accelerate.utils import broadcast_object_list

        return _answered(lambda: broadcast_object_list([found])[0])


ALONE = Processes()


def _of_launch(name: str) -> int:
    """A number that a launcher tells each of its processes; 0 where there is none."""
    return int(os.environ.get(name, "0"))


def speaker() -> str:
    """What this process says before an error; "" for the only one."""
    return f"Process {_of_launch('RANK')}: " * (_of_launch("WORLD_SIZE") > 1)


def apart(device: str) -> Processes:
    """This process of those that work on lists, each for itself: they tell each other nothing."""
    several = _of_launch("WORLD_SIZE") > 1 and torch.cuda.is_available()
    own = f"cuda:{_of_launch('LOCAL_RANK')}" * several
    return Processes(max(_of_launch("WORLD_SIZE"), 1), _of_launch("RANK"), device or own)


def _answered(ask: Callable[[], Any]) -> Any:
    """What the others answered; ConnectionError where one of them is gone."""
    try:
        return ask()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise ConnectionError(
            f"Got no answer from another process ({why[:200]}), expected one from each. See what "
            "it said last, and go on with --resume."
        ) from error


@contextmanager
def launched(device: str) -> Iterator[Processes]:
    """Those that a launcher has started, and that do one work; one where there is no launcher.

    Args:
        device: as the person asked for; "" where each process may take its own.

    Raises ValueError for a device that they would all have.
    """
    if _of_launch("WORLD_SIZE") < 2:
        yield Processes(device=device)
        return
    if ":" in device:
        raise ValueError(
            f"Got --device {shortened(device)} for several processes, expected cpu, cuda or none: "
            "each takes its own. Leave out the number."
        )
    from accelerate import PartialState

    _interrupted_once()
    state = PartialState(cpu=device == "cpu")
    yield Processes(state.num_processes, state.process_index, str(state.device))
    _answered(state.wait_for_everyone)  # not after an error: the others may be gone
    state.destroy_process_group()


def _interrupted_once() -> None:
    """A launcher ends its processes by one signal after another: the first stops, as Ctrl+C does,
    and what is then saved is not stopped again.
    """

    def stop(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)


class SharedCheckpoint(Checkpoint):
    """A checkpoint that the main process keeps; the others take what it has found."""

    def __init__(self, processes: Processes, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._processes = processes
        if not processes.main:
            self.root, self.strict = None, False

    def load_trajectories(self) -> SavedTrajectories | None:
        return self._processes.from_main(super().load_trajectories())

    def load(self) -> Snapshot | None:
        self.latest = self._processes.from_main(super().load())
        return self.latest

    def beside(self, why: str) -> None:
        if self._processes.main:
            super().beside(why)
