"""Nodes that plan and train."""
