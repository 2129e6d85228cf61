"""Flow models of diffusers."""
