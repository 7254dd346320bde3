"""What the UNet's cross-attention looks at, for the steps whose losses ask for it: forward hooks on the layers' parts.

Nothing is computed here but by whoever asks: hooks keep the queries, keys and outputs that the network has anyway, and
its attention goes on through whichever processor is set (SDPA by default).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Part = Literal["down", "mid", "up"]


@dataclass(frozen=True)
class Place:
    """One cross-attention layer.

    Attributes:
        name: path of its transformer in the UNet, `up_blocks.1.attentions.2`.
        output: path of the module whose output ends the block of this layer: the transformer, in the middle the whole
            block, at the end of an up block the upsampler.
        index: its number among all cross-attention layers, as the UNet runs through them.
        part: of the UNet.
        depth: number of its block among those of its part that have cross-attention.
    """

    name: str
    output: str
    index: int
    part: Part
    depth: int


def cross_attentions(unet: UNet2DConditionModel) -> tuple[Place, ...]:
    """All cross-attention layers of a UNet2DConditionModel, as it runs through them; 16 in Stable Diffusion 1.5.

    Raises:
        ValueError: for a UNet that has none, or several transformer blocks per layer (SDXL), or normed queries.
    """
    blocks: list[tuple[str, Part]] = [(f"down_blocks.{number}", "down") for number in range(len(unet.down_blocks))]
    blocks += [("mid_block", "mid")]
    blocks += [(f"up_blocks.{number}", "up") for number in range(len(unet.up_blocks))]
    places: list[Place] = []
    seen = {"down": 0, "mid": 0, "up": 0}
    for path, part in blocks:
        block = unet.get_submodule(path)
        layers = getattr(block, "attentions", ())
        if not layers or not hasattr(layers[0], "transformer_blocks"):
            continue
        for number in range(len(layers)):
            name = f"{path}.attentions.{number}"
            output = path if part == "mid" else name
            if part == "up" and number == len(layers) - 1 and block.upsamplers is not None:
                output = f"{path}.upsamplers.{len(block.upsamplers) - 1}"
            places.append(Place(name, output, len(places), part, seen[part]))
        seen[part] += 1
    if not places:
        raise ValueError("this UNet has no cross-attention layers")
    for place in places:
        transformer_blocks = unet.get_submodule(place.name).transformer_blocks
        if len(transformer_blocks) != 1:
            raise ValueError(
                f"{place.name} has {len(transformer_blocks)} transformer blocks; only UNets like Stable Diffusion "
                "1.5's, with one each, can be looked into"
            )
        attention = transformer_blocks[0].attn2
        if (
            attention.norm_q is not None
            or attention.norm_k is not None
            or getattr(attention, "fused_projections", False)
        ):
            raise ValueError(
                f"{place.name} norms its queries or keys, or projects them at once; undo fuse_qkv_projections"
            )
    return tuple(places)


def loss_places(unet: UNet2DConditionModel) -> tuple[Place, ...]:
    """The layers that losses look at: all but those of the higher resolutions on the way down.

    In Stable Diffusion 1.5 these are the original's 7, 8, 12 and 16 to 24: the last down block with cross-attention,
    the middle, and all on the way up. D: distill layers of the compositional losses.
    """
    places = cross_attentions(unet)
    deepest = max((place.depth for place in places if place.part == "down"), default=0)
    return tuple(place for place in places if place.part != "down" or place.depth == deepest)


@dataclass
class Activations:
    """Of one layer in the last forward pass. Shapes: B images, C channels, h x w positions, T tokens.

    Attributes:
        heads: of the attention.
        size: (h, w).
        query: (B, h * w, C) as projected, of the network's dtype, with its gradient.
        key: (B, T, C).
        features: (B, C', h', w') output of the block.
    """

    heads: int
    scale: float
    size: tuple[int, int] = (0, 0)
    query: Tensor = field(default_factory=lambda: torch.empty(0))
    key: Tensor = field(default_factory=lambda: torch.empty(0))
    features: Tensor = field(default_factory=lambda: torch.empty(0))

    def queries(self) -> Tensor:
        """float32 (B, C, h, w): queries times d^(-1/4), heads side by side, d channels each."""
        return (self.query.float() * self.scale**0.5).transpose(1, 2).unflatten(2, self.size)

    def logits(self) -> Tensor:
        """float32 (B, heads, h * w, T): attention before the softmax, Q Kᵀ / sqrt(d)."""
        return self._products(self._per_head(self.key))

    def scores(self, tokens: Tensor) -> Tensor:
        """float32 (B, heads, h, w): the logits summed over tokens.

        The keys are summed first, so that a subject of sixteen tokens costs as much as one token.

        Args:
            tokens: (B, T), weight of every token in the sum.
        """
        keys = self._per_head(self.key)
        summed = (keys * tokens.to(keys)[:, None, :, None]).sum(2, keepdim=True)
        return self._products(summed).squeeze(3).unflatten(2, self.size)

    def _per_head(self, x: Tensor) -> Tensor:
        return x.float().unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _products(self, keys: Tensor) -> Tensor:
        with torch.autocast(keys.device.type, enabled=False):
            return (self._per_head(self.query) * self.scale) @ keys.transpose(2, 3)


@contextmanager
def capture(unet: UNet2DConditionModel, places: Sequence[Place]) -> Iterator[dict[str, Activations]]:
    """A forward pass inside of the `with` leaves the activations of `places` in the mapping, by their names.

        with capture(unet, loss_places(unet)) as captured:
            unet(x, t, states)
        subject = {name: found.scores(tokens) for name, found in captured.items()}

    Inside, a second pass replaces what the first one left. Afterwards the UNet is as before and the mapping stays; with
    gradient checkpointing, too, the backward pass may come later.

    Raises:
        ValueError: for a compiled UNet, whose hooks are not looked at: give the module that was compiled.
    """
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in unet.modules()) or hasattr(
        unet, "_orig_mod"
    ):
        raise ValueError(
            "a compiled UNet does not show its activations; compile it with torch.compile(unet) into a second name, "
            "and give and call the first one here"
        )
    found: dict[str, Activations] = {}
    with ExitStack() as stack:
        for place in places:
            transformer = unet.get_submodule(place.name)
            attention = transformer.transformer_blocks[0].attn2
            activations = Activations(attention.heads, attention.scale)
            hooks = (
                attention.to_q.register_forward_hook(partial(_keep, activations, "query")),
                attention.to_k.register_forward_hook(partial(_keep, activations, "key")),
                transformer.register_forward_pre_hook(partial(_keep_size, activations), with_kwargs=True),
                unet.get_submodule(place.output).register_forward_hook(partial(_keep, activations, "features")),
            )
            for hook in hooks:
                stack.callback(hook.remove)
            found[place.name] = activations
        yield found


def _keep(activations: Activations, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    setattr(activations, name, output if isinstance(output, Tensor) else output[0])


def _keep_size(activations: Activations, _module: nn.Module, inputs: Any, options: dict[str, Any]) -> None:
    hidden = inputs[0] if inputs else options["hidden_states"]
    activations.size = (hidden.shape[2], hidden.shape[3])
