"""Class names as prompts: learned vectors among a name's tokens, through the frozen text encoder.

What CoOp and all that is built on it share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts, encode_with_context
from medvip.backbones.ragged import in_parts
from medvip.errors import UsageError
from medvip.methods.zero_shot import TEMPLATE
from medvip.symptoms import SymptomSet, spoken
from medvip.symptoms.plain_text import shown

POSITIONS = ("end", "middle", "front")
"""Where the class name stands: behind the learned vectors, between their halves, before them."""

INITIAL_STD = 0.02
"""Of learned vectors that do not start from words (Zhou et al., IJCV 2022)."""

TEXTS_AT_ONCE = 128
"""More texts are encoded in parts of this many, so that memory stays bounded."""


class ClassPrompts(nn.Module):
    """The frozen part of the prompts: what stands where, and the text encoder.

    Parameters
    ----------
    backbone
        The frozen encoders.
    tokens
        Embedded tokens of "<name>." for each class, start and end tokens included.
    end
        Position of each class's end token among tokens and context together.
    order
        For each class, the row of tokens-then-context that stands at each position.
    """

    tokens: Float[Tensor, "class token token_dim"]
    end: Int[Tensor, " class"]
    order: Int[Tensor, "class token_and_context"]
    _own_end: Int[Tensor, " class"]

    def __init__(
        self,
        backbone: Backbone,
        tokens: Float[Tensor, "class token token_dim"],
        end: Int[Tensor, " class"],
        order: Int[Tensor, "class token_and_context"],
    ) -> None:
        super().__init__()
        self._backbone = backbone
        self.register_buffer("tokens", tokens)
        self.register_buffer("end", end)
        self.register_buffer("order", order)
        context = order.shape[1] - tokens.shape[1]
        self.register_buffer("_own_end", end - context, persistent=False)
        start, length = backbone.start_tokens, tokens.shape[1]
        behind_start = [*range(start), *range(length, order.shape[1]), *range(start, length)]
        self._behind_start = bool((order == torch.tensor(behind_start, device=order.device)).all())

    @classmethod
    @torch.no_grad()
    def of_names(
        cls, backbone: Backbone, names: Sequence[str], context: int, position: str = "end"
    ) -> ClassPrompts:
        """The prompts of classes with these names and `context` learned vectors.

        Raises
        ------
        UsageError
            The prompts are too long for the text encoder.
        """
        ids, end = backbone.tokenize([f"{name}." for name in names])
        require_room([f"{name}." for name in names], end, backbone, context)
        start = backbone.start_tokens
        behind_name = torch.minimum(backbone.tokenize(names).end, end)
        before = {"end": context, "middle": context // 2, "front": 0}[position]
        vectors = list(range(ids.shape[1], ids.shape[1] + context))
        order = [
            [
                *range(start),
                *vectors[:before],
                *range(start, stop),
                *vectors[before:],
                *range(stop, ids.shape[1]),
            ]
            for stop in behind_name.tolist()
        ]
        return cls(
            backbone, backbone.embed_tokens(ids), end + context, torch.tensor(order, device=end.device)
        )

    @classmethod
    def of_tensors(cls, backbone: Backbone, state: Mapping[str, Tensor]) -> ClassPrompts:
        """From a kept state's ``prompts.tokens``, ``prompts.end`` and ``prompts.order``."""
        return cls(backbone, *(state[f"prompts.{name}"] for name in ("tokens", "end", "order")))

    def for_each_class(
        self, context: Float[Tensor, "*own context token_dim"]
    ) -> Float[Tensor, "class_or_one context token_dim"]:
        """Context that all classes share, as one, or that each has for itself, as one a class."""
        return context if context.ndim == 3 else context[None]

    def forward(
        self, contexts: Float[Tensor, "prompt class_or_one context token_dim"]
    ) -> Float[Tensor, "prompt class dim"]:
        """Vector of each class under each of several contexts, which all classes share or each has its own.

        Many texts are encoded in parts; with gradients, each part is computed a second time on
        the way back instead of being kept.
        """
        prompts, classes = len(contexts), len(self.tokens)
        if self._behind_start and contexts.shape[1] == 1:
            return self._shared(contexts[:, 0])
        contexts = contexts.expand(-1, classes, -1, -1)
        parts = torch.arange(prompts * classes, device=contexts.device).split(TEXTS_AT_ONCE)
        vectors = in_parts([(self._encode, contexts, part) for part in parts], torch.is_grad_enabled())
        return torch.cat(vectors).unflatten(0, (prompts, classes))

    def _shared(
        self, contexts: Float[Tensor, "prompt context token_dim"]
    ) -> Float[Tensor, "prompt class dim"]:
        """Of contexts that stand right behind the start token of every class's prompt."""
        classes = [(self.tokens, self._own_end)]
        if len(self.tokens) > TEXTS_AT_ONCE:
            both = self.tokens.split(TEXTS_AT_ONCE), self._own_end.split(TEXTS_AT_ONCE)
            classes = list(zip(*both, strict=True))
        prompts = contexts.split(max(1, TEXTS_AT_ONCE // len(self.tokens)))
        calls = [(encode_with_context, self._backbone, some, *texts) for some in prompts for texts in classes]
        vectors = in_parts(calls, torch.is_grad_enabled())
        starts = range(0, len(vectors), len(classes))
        return torch.cat([torch.cat(vectors[i : i + len(classes)], dim=1) for i in starts])

    def _encode(
        self,
        contexts: Float[Tensor, "prompt class context token_dim"],
        texts: Int[Tensor, " text"],
    ) -> Float[Tensor, "text dim"]:
        prompt, label = texts // contexts.shape[1], texts % contexts.shape[1]
        rows = torch.cat([self.tokens[label], contexts[prompt, label]], dim=1)
        placed = rows.take_along_dim(self.order[label][..., None], dim=1)
        return self._backbone.encode_tokens(placed, self.end[label])


@torch.no_grad()
def initial_context(
    backbone: Backbone, words: str, context: int, classes: int | None, generator: torch.Generator
) -> Float[Tensor, "*own context token_dim"]:
    """What the learned vectors start from: the tokens of `words`, or noise where there are none.

    The first `context` tokens are taken. Where the words have fewer, zeros stand before them (as
    in ProGrad's code). With `classes`, each class gets vectors of its own.
    """
    shape = (context, backbone.token_dim) if classes is None else (classes, context, backbone.token_dim)
    if not words:
        return nn.init.normal_(torch.empty(shape), std=INITIAL_STD, generator=generator).to(backbone.device)
    ids, end = backbone.tokenize([words])
    embedded = backbone.embed_tokens(ids)[0, backbone.start_tokens : int(end[0])][:context]
    padded = nn.functional.pad(embedded, (0, 0, context - len(embedded), 0))
    return padded.expand(shape).clone()


def plain_names(classes: Sequence[str], symptoms: SymptomSet | None) -> list[str]:
    """Each class's name as one would say it; as the symptom set has it, where there is one."""
    return [symptoms.plain_name(name) if symptoms else spoken(name) for name in classes]


def hand_written_vectors(
    backbone: Backbone, classes: Sequence[str], symptoms: SymptomSet | None
) -> Float[Tensor, "class dim"]:
    """Of "a photo of a <name>.", as zero-shot classification has them."""
    return encode_texts(backbone, [TEMPLATE.format(name) for name in plain_names(classes, symptoms)])


def require_context(context: int, position: str = "end") -> None:
    """Raise `UsageError` where nothing would be learned, or there is no such position."""
    if context < 1:
        raise UsageError(f"context is {context}", fix="use 1 or more context vectors")
    if position not in POSITIONS:
        raise UsageError(f"position is {position!r}", fix=f"use one of: {', '.join(POSITIONS)}")


def require_room(texts: Sequence[str], end: Int[Tensor, " text"], backbone: Backbone, context: int) -> None:
    """Raise `UsageError` where a text and `context` learned vectors are too long for the text encoder."""
    longest = int(end.argmax())
    tokens = int(end[longest]) + 1 + context
    if tokens > backbone.context_length:
        vectors = f" and {context} context vectors make" if context else " makes"
        raise UsageError(
            f"the text {shown(texts[longest])}{vectors} {tokens} tokens, "
            f"but the text encoder takes {backbone.context_length}",
            fix=f"{'use fewer context vectors, or ' if context else ''}shorten the text",
        )


def seeded_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own initial distribution, drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    bound = 1 / math.sqrt(inputs)
    for tensor in (layer.weight, layer.bias):
        nn.init.uniform_(tensor, -bound, bound, generator=generator)
    return layer
