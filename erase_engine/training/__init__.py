"""One erasure: from encoded prompts to a LoRA."""
