"""The border to ComfyUI."""
