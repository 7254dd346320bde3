"""What an encoder is made of: sizes, token ids and where its fixed parts lie.

An encoder holds token ids and not a tokenizer, so that it gives the same vectors in every pipeline whose text encoder
has its width. `EncoderConfig.for_tokenizer` derives the ids once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from transformers import CLIPTextConfig
from transformers.activations import ACT2FN

VECTORS = 16  # that stand for one person in a prompt
# Arc2Face's prompt, and the prompt whose commas the core vectors replace (AdaFace, subj_basis_generator.py)
TEACHER_PROMPT = "photo of a id person"
ID_WORD = "id"
INVERSE_PROMPT = "photo of a " + ", " * VECTORS
FILLER = ","

# Of CLIPTextConfig, what changes the states of the inverse encoder.
TEXT_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
TEXT_CHOICES: dict[str, Any] = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "attention_dropout": 0.0}
# Of the background generator: width of the image features, how many there are, and what comes out.
BACKGROUND_SIZES = {"image_dim": 1024, "image_tokens": 257, "heads": 6, "layers": 16, "vectors": 4}
BACKGROUND_CHOICES = {"dropout": 0.05}


@dataclass(frozen=True)
class EncoderConfig:
    """Everything of an encoder that is not a weight.

    Attributes:
        id_dim: width of the ID embeddings; at most the width of the text models.
        text: sizes of the inverse encoder, named as in `CLIPTextConfig`: the six of TEXT_SIZES, and where they
            differ from CLIP's, those of TEXT_CHOICES. `hidden_size` is D below.
        multipliers: how many keys and values each layer makes of one token.
        teacher_tokens: "photo of a id person" with start and end.
        inverse_tokens: "photo of a" and sixteen commas with start and end.
        id_token: the one of `teacher_tokens` that the ID embedding replaces.
        pad_token: fills prompts up to the window; its embedding is what an ID is scaled against.
        teacher: where the teacher's text encoder lies: a path relative to the encoder's folder, a local path,
            `package://PACKAGE/PATH`, a model of the hub; "" when it is given by the caller.
        teacher_subfolder: the text encoder's folder inside of that.
        face_pack: the insightface pack whose embeddings the encoder reads; "" when it is given by the caller.
        background: sizes of the background generator (BACKGROUND_SIZES, `dropout`), None without one.

    Raises:
        ValueError: naming everything that is wrong.
    """

    id_dim: int
    text: dict[str, Any]
    multipliers: tuple[int, ...]
    teacher_tokens: tuple[int, ...]
    inverse_tokens: tuple[int, ...]
    id_token: int
    pad_token: int
    teacher: str = ""
    teacher_subfolder: str = ""
    face_pack: str = ""
    background: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("multipliers", "teacher_tokens", "inverse_tokens"):  # JSON has lists only
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.text, Mapping):
            object.__setattr__(self, "text", {**TEXT_CHOICES, **self.text})
        if isinstance(self.background, Mapping):
            sizes = {**BACKGROUND_SIZES, **BACKGROUND_CHOICES, **self.background}
            object.__setattr__(self, "background", sizes)
        problems = self._type_problems() or [*self._size_problems(), *self._token_problems()]
        if problems:
            raise ValueError("the encoder's configuration is wrong: " + "; ".join(problems))

    @property
    def width(self) -> int:
        """D, the width of the text models and of the vectors that come out."""
        return self.text["hidden_size"]

    @property
    def window(self) -> int:
        """Tokens of the longest prompt, start and end included; 77 for CLIP."""
        return self.text["max_position_embeddings"]

    @property
    def slot(self) -> int:
        """Where the ID embedding and the first of the sixteen vectors stand; 4 in CLIP's tokens."""
        return self.teacher_tokens.index(self.id_token)

    def padded(self, tokens: Sequence[int], length: int | None = None) -> tuple[int, ...]:
        """These tokens, filled with the pad token up to `length` (the window by default), or cut there."""
        length = self.window if length is None else length
        return (*tokens[:length], *[self.pad_token] * (length - len(tokens)))

    def clip_config(self) -> CLIPTextConfig:
        """The inverse encoder's configuration for transformers; its attention is SDPA."""
        marks = {
            "bos_token_id": self.inverse_tokens[0],
            "eos_token_id": self.inverse_tokens[-1],
            "pad_token_id": self.pad_token,
        }
        return CLIPTextConfig(**self.text, **marks, attn_implementation="sdpa")

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """Raises ValueError for unknown, missing and wrong values."""
        known = {field.name for field in fields(cls)}
        needed = ("id_dim", "text", "multipliers", "teacher_tokens", "inverse_tokens", "id_token", "pad_token")
        problems = [_unknown(name, known) for name in values if name not in known]
        problems += [f"{name} is missing" for name in needed if name not in values]
        if problems:
            raise ValueError("the encoder's configuration is wrong: " + "; ".join(problems))
        return cls(**values)

    @classmethod
    def for_tokenizer(
        cls,
        tokenizer: Any,
        *,
        id_dim: int,
        text: CLIPTextConfig | Mapping[str, Any],
        multipliers: Sequence[int] | None = None,
        teacher: str = "",
        teacher_subfolder: str = "",
        face_pack: str = "",
        background: Mapping[str, Any] | None = None,
    ) -> EncoderConfig:
        """The configuration of an encoder whose text models read this CLIP tokenizer's ids.

        Args:
            tokenizer: a CLIP tokenizer; `id` and `,` must each be one token of it.
            text: the text model that the inverse encoder starts from, as its configuration or as sizes.
            multipliers: keys and values per token and layer; one everywhere by default.

        Raises:
            ValueError: when the tokenizer cuts one of the words, or a size is wrong.
        """
        pieces = {word: tokenizer(word, add_special_tokens=False).input_ids for word in (ID_WORD, FILLER)}
        problems = [f"`{word}` falls into {len(ids)} tokens" for word, ids in pieces.items() if len(ids) != 1]
        if tokenizer.pad_token_id is None:
            problems.append("there is no pad token")
        if problems:
            raise ValueError(
                "this tokenizer cannot write the encoder's prompts: "
                + "; ".join(problems)
                + "; take the one of a CLIP text model (of Stable Diffusion 1.5, for instance)"
            )
        sizes = text_values(text) if isinstance(text, CLIPTextConfig) else dict(text)
        return cls(
            id_dim=id_dim,
            text=sizes,
            multipliers=tuple(multipliers or [1] * sizes["num_hidden_layers"]),
            teacher_tokens=tuple(tokenizer(TEACHER_PROMPT).input_ids),
            inverse_tokens=tuple(tokenizer(INVERSE_PROMPT).input_ids),
            id_token=pieces[ID_WORD][0],
            pad_token=tokenizer.pad_token_id,
            teacher=teacher,
            teacher_subfolder=teacher_subfolder,
            face_pack=face_pack,
            background=dict(background) if background is not None else None,
        )

    def _type_problems(self) -> list[str]:
        problems = [
            f"{name} must be a whole number, not {getattr(self, name)!r}"
            for name in ("id_dim", "id_token", "pad_token")
            if not _whole(getattr(self, name))
        ]
        for name in ("multipliers", "teacher_tokens", "inverse_tokens"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(map(_whole, value)):
                problems.append(f"{name} must be a list of whole numbers, not {value!r}")
        for name in ("teacher", "teacher_subfolder", "face_pack"):
            if not isinstance(getattr(self, name), str):
                problems.append(f"{name} must be a text, not {getattr(self, name)!r}")
        problems += _table_problems("text", self.text, TEXT_SIZES, TEXT_CHOICES)
        act = self.text.get("hidden_act") if isinstance(self.text, dict) else None
        if isinstance(act, str) and act not in ACT2FN:
            close = get_close_matches(act, sorted(ACT2FN), n=1)
            hint = f" (meant {close[0]!r}?)" if close else ""
            problems.append(f"text: hidden_act {act!r} is no activation of transformers{hint}")
        if self.background is not None:
            problems += _table_problems("background", self.background, BACKGROUND_SIZES, BACKGROUND_CHOICES)
        return problems

    def _size_problems(self) -> list[str]:
        problems = []
        layers, heads = self.text["num_hidden_layers"], self.text["num_attention_heads"]
        if not 1 <= self.id_dim <= self.width:
            problems.append(f"id_dim {self.id_dim} must lie in 1..{self.width}, the width of the text models")
        if self.width % heads:
            problems.append(f"text: hidden_size {self.width} cannot be cut into {heads} heads")
        if len(self.multipliers) != layers:
            problems.append(f"multipliers names {len(self.multipliers)} layers, the inverse encoder has {layers}")
        if any(multiplier < 1 for multiplier in self.multipliers):
            problems.append(f"multipliers must be at least 1, not {self.multipliers}")
        if self.background and self.width % self.background["heads"]:
            problems.append(f"background: the width {self.width} cannot be cut into {self.background['heads']} heads")
        return problems

    def _token_problems(self) -> list[str]:
        if self.teacher_tokens.count(self.id_token) != 1:
            return [f"id_token {self.id_token} must stand once in teacher_tokens {self.teacher_tokens}"]
        problems = []
        slot, fillers = self.slot, self.inverse_tokens[self.slot : self.slot + VECTORS]
        if len(self.inverse_tokens) != slot + VECTORS + 1 or len(set(fillers)) != 1:
            problems.append(
                f"inverse_tokens must be start, words, {VECTORS} equal tokens from place {slot} on, and end, "
                f"not {self.inverse_tokens}"
            )
        elif self.window < len(self.inverse_tokens) + 1:
            problems.append(f"a window of {self.window} tokens is shorter than the inverse encoder's prompt")
        known = self.text["vocab_size"]
        tokens = {*self.teacher_tokens, *self.inverse_tokens, self.pad_token}
        if outside := sorted(token for token in tokens if not 0 <= token < known):
            problems.append(f"token ids {outside} lie outside of the vocabulary of {known}")
        return problems


def text_values(config: CLIPTextConfig) -> dict[str, Any]:
    """What `EncoderConfig.text` keeps of a text model's configuration."""
    return {name: getattr(config, name) for name in (*TEXT_SIZES, *TEXT_CHOICES)}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(name: str, known: Sequence[str] | set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"unknown {name!r}" + (f" (meant {close[0]!r}?)" if close else "")


def _table_problems(name: str, table: Any, sizes: Any, choices: Mapping[str, Any]) -> list[str]:
    if not isinstance(table, dict):
        return [f"{name} must be a table of sizes, not {table!r}"]
    known = {*sizes, *choices}
    problems = [f"{name}: {_unknown(str(key), known)}" for key in table if key not in known]
    for key in sizes:
        if key not in table:
            problems.append(f"{name}: {key} is missing")
        elif not _whole(table[key]) or table[key] < 1:
            problems.append(f"{name}: {key} must be a positive whole number, not {table[key]!r}")
    for key, usual in choices.items():
        number = isinstance(table.get(key), (int, float)) and not isinstance(table.get(key), bool)
        if not (isinstance(table.get(key), str) if isinstance(usual, str) else number):
            problems.append(f"{name}: {key} must be a {'text' if isinstance(usual, str) else 'number'}")
    return problems
