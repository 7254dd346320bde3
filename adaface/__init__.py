"""AdaFace: a face becomes sixteen vectors that stand in a Stable Diffusion prompt like words."""

__version__ = "0.1.0"
