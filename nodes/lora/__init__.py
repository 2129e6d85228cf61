"""Nodes that use LoRA files."""
