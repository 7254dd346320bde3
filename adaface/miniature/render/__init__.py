"""Portraits with exact ground truth: `render(identity, scene, nuisance)`."""

from adaface.miniature.render.portrait import Face, Picture, Sitter, grid, render, render_people

__all__ = ["Face", "Picture", "Sitter", "grid", "render", "render_people"]
