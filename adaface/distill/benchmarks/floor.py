"""The least that a step can cost: its networks' calls and nothing else.

The calls of a step are written down, with the shapes of their inputs and whether they had a gradient, and can be made
again without what is between them: no samples, draws, losses, captured activations, clipped gradients, optimizer.
Those of the UNets alone, teacher and student, are a floor below that floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from adaface.distill.benchmarks.networks import Networks
from adaface.distill.contexts import layer_contexts


@dataclass(frozen=True)
class Call:
    """Of one network; tensors without their gradient."""

    network: nn.Module
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    leaves: int  # inputs that gradients go to
    gradient: bool
    autocast: bool


@dataclass
class Calls:
    """In the order they were made."""

    made: list[Call] = field(default_factory=list)

    def again(self, networks: Networks) -> None:
        """All calls, forward, and backward where a gradient was asked for; gradients are added to the encoder's."""
        device = networks.models.device.type
        with layer_contexts(networks.models.unet):
            for call in self.made:
                with torch.autocast(device, torch.bfloat16, enabled=call.autocast):
                    _make(call)
        for parameter in networks.encoder.parameters():
            parameter.grad = None

    def of_unets(self, networks: Networks) -> Calls:
        """The calls of the teacher's and the student's UNet: no text, no VAE, no CLIP, no encoder."""
        unets = (networks.models.unet, networks.models.teacher)
        return Calls([call for call in self.made if call.network in unets])


@contextmanager
def written_down(networks: Networks) -> Iterator[Calls]:
    """The calls that are made inside of the `with`."""
    calls = Calls()
    device = networks.models.device.type

    def note(network: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        tensors = [x for x in (*inputs, *options.values()) if isinstance(x, Tensor)]
        calls.made.append(
            Call(
                network,
                tree_map(_cut, inputs),
                tree_map(_cut, options),
                sum(x.requires_grad for x in tensors),
                torch.is_grad_enabled(),
                torch.is_autocast_enabled(device),
            )
        )

    with ExitStack() as stack:
        for part in networks.called():
            # before those that are there: what they make of the inputs they make again
            stack.callback(part.register_forward_pre_hook(note, prepend=True, with_kwargs=True).remove)
        yield calls


def _cut(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _make(call: Call) -> None:
    network = call.network
    frozen = not any(parameter.requires_grad for parameter in network.parameters())
    embeddings: Callable[[], nn.Module] | None = getattr(network, "get_input_embeddings", None)
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(call.gradient))
        if call.gradient and frozen and not call.leaves and embeddings is not None:
            # the text model, whose gradient goes to vectors that were put among its embeddings
            hook = embeddings().register_forward_hook(lambda _module, _inputs, out: out.detach().requires_grad_())
            stack.callback(hook.remove)
        output = network(*call.inputs, **call.options)
        first = output if isinstance(output, Tensor) else output[0]
        if call.gradient and first.requires_grad:
            first.float().mean().backward()
        for tensor in (*call.inputs, *call.options.values()):
            if isinstance(tensor, Tensor):
                tensor.grad = None
