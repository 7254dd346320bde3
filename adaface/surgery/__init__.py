"""Stable Diffusion checkpoints put together from parts of others."""
