"""Flow models that ComfyUI has loaded."""
