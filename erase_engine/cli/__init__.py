"""The command without ComfyUI."""
