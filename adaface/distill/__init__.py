"""Distillation: what a training step consists of, its losses, and what is trained by them; plain functions on tensors."""
