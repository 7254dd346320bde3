"""The renderer as a method of an evaluation: the right person in the right scene, as the base model could draw it.

What a perfect encoder would reach, in every measure:

    {name: rendered, kind: entry_point, entry_point: "adaface.miniature.rendered_people:RenderedPeople"}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL

from adaface.miniature.album.write import TRUTH, read_truth
from adaface.miniature.networks.vae import to_images, to_tensor
from adaface.miniature.pictures.portraits import SIZE
from adaface.miniature.render import render
from adaface.miniature.world.identity import Identity
from adaface.miniature.world.scene import VOCABULARY, Nuisance, Scene
from adaface.model_path import model_path

if TYPE_CHECKING:
    from adaface.evaluation.config import GenerationConfig
    from adaface.evaluation.methods.base import Request
    from adaface.evaluation.subjects import Subject


class RenderedPeople:
    """Subjects are folders of an album of `adaface render-faces`, which says who they are.

    Pictures go through the base model's VAE, as everything does that it draws. What a prompt expects is in the scene;
    pose, light from the side and the rest are the seed's.
    """

    def __init__(self, generation: GenerationConfig):
        self._vae = AutoencoderKL.from_pretrained(model_path(generation.base), subfolder="vae").eval()

    def prepare(self, subject: Subject, photos: list[np.ndarray], ids: np.ndarray) -> Identity:
        """Raises ValueError as `identity_of` does."""
        return identity_of(subject)

    @torch.inference_mode()
    def draw(self, prepared: Identity, requests: Sequence[Request]) -> list[np.ndarray]:
        """RGB uint8 (64, 64, 3) each. Raises ValueError for an expectation that is no word of a scene."""
        drawn = np.stack([_picture(prepared, request) for request in requests])
        latents = self._vae.encode(to_tensor(drawn, torch.device("cpu"))).latent_dist.mode()
        return list(to_images(self._vae.decode(latents).sample))


def identity_of(subject: Subject) -> Identity:
    """Who a subject is, by the album that its folder of photos belongs to.

    Raises ValueError for a subject whose album, two folders above its photos, does not know it.
    """
    album = subject.photos[0].parents[2]
    known = read_truth(album) if (album / TRUTH).is_file() else []
    # of a face that was put into somebody else's folder, the row names another person
    own = (row["identity"] for row in known if row["folder"] == row["person"] == subject.name)
    person = next(own, None)
    if person is None:
        raise ValueError(
            f"subject {subject.name}: {album / TRUTH} does not say who that is; people of the renderer come from the "
            "folder `people` of an album, as `adaface render-faces` writes it"
        )
    return Identity(**person)


def _picture(person: Identity, request: Request) -> np.ndarray:
    if unknown := sorted(set(request.prompt.expects) - set(VOCABULARY)):
        raise ValueError(
            f"prompt {request.prompt.id} expects {', '.join(unknown)}; a scene has {', '.join(VOCABULARY)}"
        )
    pose = Nuisance.sample(np.random.default_rng(request.seed))
    return render(person, Scene(**request.prompt.expects), pose, SIZE).image
