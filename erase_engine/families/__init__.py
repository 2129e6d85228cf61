"""What the engine must know of a model family."""
