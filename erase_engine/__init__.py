"""Concept erasure for rectified flow transformers: the engine, free of any host program."""
