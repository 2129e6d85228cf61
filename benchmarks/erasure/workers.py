"""Rows made by several processes, each on one core; they come back one by one."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from ..pack import import_pack
from ..parent import end_with_parent

import_pack()

import torch

from ..world import World
from .case import Case
from .measure import measured
from .sheet import save_sheet

NO_MORE = 1.0  # seconds that an empty queue of jobs is waited for


@dataclass(frozen=True)
class Job:
    """The methods to measure on one concept with one seed."""

    concept: str
    seed: int
    methods: Sequence[str]
    count: int
    sheets: Path | None  # where `shown`'s pictures go
    shown: str
    slow: bool

    def rows(self, world: World) -> Iterator[dict[str, Any]]:
        case = Case(world, self.concept, self.seed, self.count, self.slow)
        for method in self.methods:
            row, pictures = measured(case, method)
            if self.sheets is not None and method == self.shown:
                save_sheet(self.sheets, case, pictures, row["worst_word_name"])
            yield row


def shared_out(jobs: Sequence[Job], workers: int) -> list[Job]:
    """The last jobs, which would leave workers idle, are done by all of them: some methods each."""
    whole = len(jobs) - len(jobs) % workers
    shared = list(jobs[:whole])
    for job in jobs[whole:]:
        cuts = [len(job.methods) * number // workers for number in range(workers + 1)]
        parts = (job.methods[start:end] for start, end in pairwise(cuts))
        shared += [replace(job, methods=methods) for methods in parts if methods]
    return shared


def rows_of(jobs: Sequence[Job], workers: int, family: str) -> Iterator[dict[str, Any]]:
    """Every row of every job, as they are done, on the miniature of a family.

    Raises RuntimeError where a worker fails.
    """
    context = get_context("spawn")
    given, done = context.Queue(), context.Queue()
    for job in shared_out(jobs, workers):
        given.put(job)
    processes = [context.Process(target=_work, args=(given, done, family)) for _ in range(workers)]
    for process in processes:
        process.start()
    running = workers
    while running:
        found = done.get()
        if isinstance(found, str):
            for process in processes:
                process.terminate()
            raise RuntimeError(found)
        running -= found is None
        if found is not None:
            yield found


def _work(given: Any, done: Any, family: str) -> None:
    """Jobs until there are none: rows, then None; the traceback of what goes wrong."""
    end_with_parent()
    torch.set_num_threads(1)
    try:
        world = World(family)
        while True:
            for row in given.get(timeout=NO_MORE).rows(world):
                done.put(row)
    except Empty:
        done.put(None)
    except BaseException:
        done.put(traceback.format_exc())
