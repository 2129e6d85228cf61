"""On a machine with a GPU; see `__main__`."""

from __future__ import annotations

import sys

import torch

from ..pack import import_pack

# Rehearsals, and the process that judges pictures, stay on the CPU.
import_pack(cpu=bool({"--rehearse", "--found"} & set(sys.argv)) or not torch.cuda.is_available())
