"""Concept erasure for rectified flow transformers: the engine, free of any host program."""

__version__ = "0.1.0"
