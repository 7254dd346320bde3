"""The AdaFace encoder: an ID embedding becomes sixteen token embeddings for Stable Diffusion's text encoder.

    ID (B, id_dim) --teacher--> core (B, 16, D) --inverse encoder--> vectors (B, 16, D)

The teacher is Arc2Face's text encoder and stays as it is; its states at sixteen places are the core. The inverse encoder
is a CLIP text model whose prompt "photo of a , , ..." has the core in the place of its commas, and whose states there,
a learned mean of its last layers, are the vectors. All places are counted from the start token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from adaface.encoder import files as encoder_files
from adaface.encoder.background import BackgroundGenerator
from adaface.encoder.clip_text import embed_with
from adaface.encoder.config import VECTORS, EncoderConfig, text_values
from adaface.encoder.gradient_scale import scale_gradient
from adaface.encoder.multi_kv import extend, give_copies
from adaface.encoder.prompt_kinds import Kind, as_kind
from adaface.encoder.teacher import teacher_states_of

# Relative weights of the inverse encoder's last layers before training, oldest first
FIRST_LAYER_WEIGHTS = (1.0, 2.0, 4.0)
TEACHER_LENGTH = 22  # tokens of its prompt, as in the original's inference; any from 20 on gives the same core


class AdaFaceEncoder(nn.Module):
    """See the module. A new one has random weights; `from_text_model` starts training, `from_pretrained` loads.

    Attributes:
        config: sizes and tokens; `config.multipliers` follows `extend`.
        teacher: the teacher's CLIP text model of width D; never trained, always in evaluation mode.
        inverse: the inverse encoder, a CLIP text model whose attention has several keys per token.
        layer_weights: (n, 1) or (n, D) relative weights of the inverse encoder's last n layers (3 at first).
        pad_table: (window, D) kept with the weights, or None: `pads` then computes it from the weights as they are.
        background: the background generator, or None.
        output_gradient: what the gradient of the vectors and of `prompt_states` is multiplied by on its way in; 1 in the
            original's training command, 0.4 in its class, 0 cuts it off.
        layer_weights_gradient: the same for `layer_weights`; 5 in the original.
    """

    def __init__(
        self,
        config: EncoderConfig,
        teacher: CLIPTextModel,
        *,
        output_gradient: float = 1.0,
        layer_weights_gradient: float = 5.0,
    ) -> None:
        super().__init__()
        if teacher.config.hidden_size != config.width:
            raise ValueError(
                f"the teacher is {teacher.config.hidden_size} wide and the inverse encoder {config.width}; "
                "the core of one is the input of the other"
            )
        self.config = config
        self.output_gradient = output_gradient
        self.layer_weights_gradient = layer_weights_gradient
        self.teacher = teacher.requires_grad_(False).eval()
        self.inverse = CLIPTextModel(config.clip_config())
        give_copies(self.inverse, config.multipliers)
        last = min(len(FIRST_LAYER_WEIGHTS), len(config.multipliers) + 1)
        self.layer_weights = nn.Parameter(torch.tensor(FIRST_LAYER_WEIGHTS[-last:])[:, None])
        self.pad_table: Tensor | None
        self.register_buffer("pad_table", None)
        self.background = BackgroundGenerator(config.width, config.background) if config.background else None
        self.teacher_folder: Path | None = None  # where a teacher beside the encoder's files was read from

    @classmethod
    def from_text_model(
        cls, config: EncoderConfig, teacher: CLIPTextModel, text: CLIPTextModel, **gradients: float
    ) -> AdaFaceEncoder:
        """An encoder before training: its inverse encoder is a copy of `text`, keys and values repeated as configured.

        The original starts from CLIP ViT-L/14's text model. Raises ValueError when the sizes are not those of `config`.
        """
        given = text_values(text.config)
        if different := [name for name, value in given.items() if config.text[name] != value]:
            raise ValueError(
                "the text model is not the configured one: "
                + ", ".join(f"{name} {given[name]} instead of {config.text[name]}" for name in different)
            )
        encoder = cls(replace(config, multipliers=(1,) * len(config.multipliers)), teacher, **gradients)
        encoder.inverse.load_state_dict(text.state_dict())
        for layer, multiplier in enumerate(config.multipliers):
            encoder.extend(multiplier, layers=[layer], noise=0.0)
        return encoder

    def train(self, mode: bool = True) -> AdaFaceEncoder:
        super().train(mode)
        self.teacher.eval()
        return self

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """All but the teacher's."""
        teachers = set(self.teacher.parameters())
        return (parameter for parameter in self.parameters() if parameter not in teachers)

    def forward(self, ids: Tensor, *, id_scale: float = 1.0) -> Tensor:
        """The vectors of people.

        Args:
            ids: (B, id_dim) ID embeddings of unit length.
            id_scale: s in s·vectors + (1 - s)·pads: over 1 exaggerates the person, 1 changes nothing.

        Returns:
            (B, 16, D) token embeddings in the dtype of `ids`. For s other than 1 a low precision meets the pads', and
            the higher of both comes out, as in the original.
        """
        return self.scaled(self.invert(self.teacher_core(ids)), id_scale)

    def scaled(self, vectors: Tensor, id_scale: float) -> Tensor:
        """s·vectors + (1 - s)·pads at their places, (B, 16, D); see `forward`."""
        if id_scale == 1:
            return vectors
        slot = self.config.slot
        return id_scale * vectors + (1 - id_scale) * self.pads()[slot : slot + VECTORS]

    def teacher_core(self, ids: Tensor) -> Tensor:
        """ID embeddings (B, id_dim) -> the teacher's states at sixteen places (B, 16, D), in the dtype of `ids`.

        Normalises nothing: unit length is the caller's business, and zeros give the original's negative.
        """
        if ids.ndim != 2 or ids.shape[1] != self.config.id_dim:
            raise ValueError(f"ID embeddings must be (B, {self.config.id_dim}), not {tuple(ids.shape)}")
        slot = self.config.slot
        length = max(TEACHER_LENGTH, slot + VECTORS)
        tokens = self.config.padded(self.config.teacher_tokens, length)
        states = teacher_states_of(self.teacher, tokens, slot, ids.to(self.layer_weights.device))
        return states[:, slot : slot + VECTORS].to(ids.dtype)

    def invert(self, core: Tensor, tokens: Tensor | None = None) -> Tensor:
        """The teacher's core (B, 16, D) -> vectors (B, 16, D), in the dtype of `core`."""
        slot = self.config.slot
        if tokens is None:  # no state depends on what stands behind it, so the padding need not be computed
            tokens = torch.tensor([self.config.inverse_tokens])
        return self._inverted(core, tokens)[:, slot : slot + VECTORS]

    def prompt_states(self, core: Tensor, kind: Kind = "full", tokens: Tensor | None = None) -> Tensor:
        """All states of the inverse encoder's prompt: its second output in the original.

        Args:
            core: (B, 16, D).
            kind: what stands behind the vectors, see prompt_kinds.py; `full_pad` in the original's training,
                `full_half_pad` in its evaluation.
            tokens: int64 (1, T) or (B, T) another prompt whose places slot..slot+15 the core takes; by default
                `config.inverse_tokens`, padded to the window.

        Returns:
            (B, T, D) or, for `b_core_e`, (B, 23, D), in the dtype of `core`.
        """
        return as_kind(self._inverted(core, tokens), self.pads(), kind, slot=self.config.slot)

    def pads(self) -> Tensor:
        """(window, D) what an ID is scaled against: a pad token's embedding at every place, before the first layer.

        That of `pad_table` when there is one. Otherwise it follows the weights, while the original computes it once per
        run and then keeps it. Without gradient.
        """
        if self.pad_table is not None:
            return self.pad_table
        embeddings = self.inverse.embeddings
        token = embeddings.token_embedding.weight[self.config.pad_token]
        return (token + embeddings.position_embedding.weight).detach()

    def extend(
        self,
        multiplier: int,
        *,
        layers: Sequence[int] | None = None,
        noise: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        """Multiplies the keys and values of these layers (all by default); see `multi_kv.extend`.

        Unlike in the original, layers that have copies already get noise on their new ones, too. Weights are new
        parameters afterwards: make the optimizer after this.

        Raises:
            ValueError: for a multiplier under 1, negative noise, or layers that do not exist or come twice.
        """
        count = len(self.config.multipliers)
        chosen = list(range(count)) if layers is None else list(layers)
        if len(set(chosen)) != len(chosen) or not all(0 <= layer < count for layer in chosen):
            raise ValueError(f"layers must be different ones of 0..{count - 1}, not {chosen}")
        multipliers = list(self.config.multipliers)
        for layer in chosen:
            extend(self.inverse.encoder.layers[layer].self_attn, multiplier, noise=noise, generator=generator)
            multipliers[layer] *= multiplier
        self.config = replace(self.config, multipliers=tuple(multipliers))

    def save_pretrained(self, folder: str | Path, *, teacher: Literal["copy", "reference"] = "copy") -> Path:
        """Writes the encoder as a folder, whole or not at all; see `encoder_files.save`."""
        return encoder_files.save(self, Path(folder), teacher=teacher)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        teacher: str | CLIPTextModel | None = None,
        **gradients: float,
    ) -> AdaFaceEncoder:
        """Reads an encoder's folder or one of the hub, in evaluation mode.

        Args:
            source: a local folder, `package://PACKAGE/PATH` or a repository of the Hugging Face hub.
            dtype: of all weights; float32 by default.
            device: the CPU by default.
            teacher: in the place of `config.teacher`: where it lies, or the text model itself, which is then shared: it
                is moved and frozen.
            gradients: `output_gradient`, `layer_weights_gradient`.

        Raises:
            ValueError: when a file is not an encoder's, or tensors are missing, unknown or of wrong shapes (all named).
            FileNotFoundError: when the encoder or its teacher is not there.
        """
        files = encoder_files.read(source, teacher=teacher)
        encoder = files.build(cls, **gradients)
        return encoder.to(device=device, dtype=dtype or torch.float32).eval()

    def _inverted(self, core: Tensor, tokens: Tensor | None) -> Tensor:
        config = self.config
        if core.ndim != 3 or core.shape[1:] != (VECTORS, config.width):
            raise ValueError(f"the core must be (B, {VECTORS}, {config.width}), not {tuple(core.shape)}")
        if tokens is None:
            tokens = torch.tensor([config.padded(config.inverse_tokens)])
        weights = scale_gradient(self.layer_weights, self.layer_weights_gradient)
        states = embed_with(
            self.inverse, tokens.to(self.layer_weights.device), core, config.slot, layer_weights=weights
        )
        return scale_gradient(states, self.output_gradient).to(core.dtype)
