"""The model card in an encoder's folder: what it is, how it is used, what it was made of."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adaface.encoder.config import VECTORS, EncoderConfig

_CARD = """\
---
library_name: adaface
tags: [stable-diffusion, personalization, face, text-to-image]
---

# AdaFace encoder

Turns the ID embedding of a face into {vectors} token embeddings that stand in a prompt of any Stable Diffusion pipeline
whose text encoder is {width} wide.

```python
from adaface.subjects.subject import load_adaface

subject = load_adaface(pipe, "path/of/this/folder").subject(images=["face.jpg"])
pipe(**subject.prompt("z riding a horse, oil painting"), guidance_scale=6).images
```

| | |
|---|---|
| ID embedding | {id_dim} values of unit length{pack} |
| text width | {width} |
| inverse encoder | {layers} layers, {heads} heads, {parameters:,} values in all |
| keys and values per token, by layer | {multipliers} |
| teacher | {teacher} |
| background generator | {background} |

`adaface.safetensors` holds all trained weights, `config.json` sizes and token ids.

## Before you use it

A picture made with this encoder shows a face that resembles a real person. Have that person's consent, and do not
present such pictures as photos. The face recognition model whose embeddings it reads, and the teacher, have licences
of their own; many of them allow research only.
"""


def model_card(config: EncoderConfig, weights: Mapping[str, Tensor]) -> str:
    """Markdown; depends on nothing but the configuration and the sizes."""
    within = f"{config.teacher}/{config.teacher_subfolder}" if config.teacher_subfolder else config.teacher
    return _CARD.format(
        vectors=VECTORS,
        width=config.width,
        id_dim=config.id_dim,
        pack=f", of `{config.face_pack}`" if config.face_pack else "",
        layers=config.text["num_hidden_layers"],
        heads=config.text["num_attention_heads"],
        parameters=sum(tensor.numel() for tensor in weights.values()),
        multipliers=", ".join(map(str, config.multipliers)),
        teacher=f"`{within}`",
        background="yes" if config.background else "no",
    )
