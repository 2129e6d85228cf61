"""Nodes that look into attention."""
