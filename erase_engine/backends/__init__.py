"""Model backends: what the engine needs of a model, and who offers it."""
