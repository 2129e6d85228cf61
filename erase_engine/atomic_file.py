"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A draft that takes the name `path` at the end of the `with`; an error leaves nothing.

    The draft has a folder of its own, because who writes it may put further files beside it
    (safetensors does). A killed process leaves that folder; the next one that writes this file
    takes it away.
    """
    folder = path.with_name(f".{path.name}.writing")
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draft = folder / "draft"  # without an ending by which hosts would list it
    try:
        yield draft
        os.replace(draft, path)
    finally:
        rmtree(folder, ignore_errors=True)
