"""A BERT without padding: texts of different lengths stand one behind the other.

BERT attends in both directions, so learned context in front of a text looks different in each from
the first attention on. Only before that is it the same for all: there its rows are computed once,
and the texts' own rows once and for all. The weights are frozen, see `medvip.backbones.frozen_linear`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from medvip.backbones.frozen_linear import Affine, FrozenLinear, side_by_side
from medvip.backbones.kept_texts import KeptTexts
from medvip.backbones.ragged import RaggedTexts, attend, in_parts, parts_of_rows, without_padding
from medvip.errors import BackboneError

ROWS_AT_ONCE = 4096
"""More rows are computed in parts, so that memory stays bounded (0.6 GB in MiniLM). With gradients,
each part is then computed a second time on the way back instead of being kept."""

START = 1
"""BERT's texts begin with one token, and context stands behind it."""


class BertText:
    """The frozen layers of a transformers `BertModel`; a text's vector is the mean of its tokens.

    Parameters
    ----------
    weights
        By the names that they have there, on the device where they stay. Nothing of transformers is
        needed, which takes seconds to import.
    heads, epsilon
        `num_attention_heads` and `layer_norm_eps` of its configuration. The activation is GELU.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, heads: int, epsilon: float) -> None:
        self.words: Float[Tensor, "word width"] = weights["embeddings.word_embeddings.weight"]
        self._weights, self._known = Weights(Named(weights, epsilon), heads), KeptTexts[Known]()

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device) -> BertText:
        """From ``config.json`` and ``model.safetensors``.

        Raises
        ------
        BackboneError
            It is a model of another kind.
        OSError, KeyError
            A file or a weight is missing.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        positions = config.get("position_embedding_type", "absolute")
        kind = [config["model_type"], config["hidden_act"], positions]
        if kind != ["bert", "gelu", "absolute"]:
            raise BackboneError(
                f"{folder} has no BERT with GELU and absolute positions, but {kind}",
                fix="install the package that brings it again, in the version that medvip asks for",
            )
        weights = load_file(folder / "model.safetensors", device=str(device))
        return cls(weights, heads=config["num_attention_heads"], epsilon=config["layer_norm_eps"])

    def embed(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token width"]:
        """Rows of the word embedding."""
        return nn.functional.embedding(ids, self.words)

    def encode(
        self, embeddings: Float[Tensor, "text token width"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text width"]:
        """Mean of each text's states up to its end position; gradients flow to `embeddings`."""
        lengths = end + 1
        parts = parts_of_rows(lengths.tolist(), ROWS_AT_ONCE)
        learning = torch.is_grad_enabled() and embeddings.requires_grad
        means = self._weights.means
        return torch.cat(in_parts([(means, embeddings[part], lengths[part]) for part in parts], learning))

    def encode_with_context(
        self,
        context: Float[Tensor, "run context width"],
        tokens: Float[Tensor, "text token width"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text width"]:
        """The same with context behind the start token of each text; gradients flow to `context` alone.

        `tokens` and `end` are those of the texts without context. What follows from them alone is
        kept as long as `tokens` is.
        """
        weights, (runs, length, _) = self._weights, context.shape
        known = self._known.of(tokens, end, lambda: Known(end, weights))
        parts = known.parts(tokens, runs, length)
        placed = weights.norm(context + weights.positions[START : START + length])
        learning = torch.is_grad_enabled() and context.requires_grad
        return torch.cat(in_parts([(part.encode, placed) for part in parts], learning), dim=1)


class Weights:
    """All layers of the tower, and the way through them.

    Attributes
    ----------
    positions
        Vectors that are added to the word embeddings.
    norm
        What follows.
    layers
        From the first to the last.
    heads
        Into how many parts attention cuts each row.
    """

    def __init__(self, named: Named, heads: int) -> None:
        of_first_sentence = named["embeddings.token_type_embeddings.weight"][0]
        self.positions = named["embeddings.position_embeddings.weight"] + of_first_sentence
        self.norm, self.heads = named.norm("embeddings.LayerNorm"), heads
        self.layers = [Layer(named, f"encoder.layer.{number}") for number in range(named.layers)]

    def means(
        self, embeddings: Float[Tensor, "text token width"], lengths: Int[Tensor, " text"]
    ) -> Float[Tensor, "text width"]:
        """Of texts given as word embeddings."""
        placed = embeddings + self.positions[: embeddings.shape[1]]
        states = self.norm(without_padding(placed, lengths))
        texts = Texts(lengths.tolist(), self.heads, like=states)
        return self.through(states, self.layers[0].queries_keys_values(states), texts)

    def through(
        self,
        states: Float[Tensor, "row width"],
        first: Float[Tensor, "row three_widths"],
        texts: Texts,
    ) -> Float[Tensor, "text width"]:
        """Means of texts whose rows, and the first layer's queries, keys and values of these, are there."""
        for index, layer in enumerate(self.layers):
            wide = first if index == 0 else layer.queries_keys_values(states)
            found = attend(wide.view(-1, states.shape[1]), texts.rows.every_row)
            states = layer.finish(found, states)
        return texts.means(states)


class Texts:
    """Where the rows of each text stand, and the mean over them.

    Parameters
    ----------
    lengths
        Rows of each text.
    heads, like
        As in `RaggedTexts`.
    """

    def __init__(self, lengths: list[int], heads: int, like: Tensor) -> None:
        self.rows = RaggedTexts(lengths, heads=heads, like=like, causal=False)
        counts = torch.tensor(lengths)
        self._text_of_row = torch.arange(len(lengths)).repeat_interleave(counts).to(like.device)
        self._lengths = counts[:, None].to(like)

    def means(self, states: Float[Tensor, "row width"]) -> Float[Tensor, "text width"]:
        """Of each text's rows."""
        sums = states.new_zeros(len(self._lengths), states.shape[1])
        return sums.index_add(0, self._text_of_row, states) / self._lengths


class Part(NamedTuple):
    """As many texts as are computed at once, and what follows from them alone.

    Attributes
    ----------
    weights
        Of the tower.
    texts
        Their rows, context included, of all runs.
    states, first
        Rows of the texts' own tokens of a run, and the first layer's queries, keys and values of these.
    order
        Of each row of a run: which of its own rows it is, or, counted on from these, which of the context.
    """

    weights: Weights
    texts: Texts
    states: Float[Tensor, "row width"]
    first: Float[Tensor, "row three_widths"]
    order: Int[Tensor, " row_and_context"]

    def encode(self, context: Float[Tensor, "run context width"]) -> Float[Tensor, "run text width"]:
        """Means of these texts behind the context of each run, with positions added, and normalised."""
        runs = len(context)
        of_context = self.weights.layers[0].queries_keys_values(context.flatten(0, 1))
        states, first = (
            torch.cat([own.expand(runs, -1, -1), new], dim=1).index_select(1, self.order).flatten(0, 1)
            for own, new in (
                (self.states, context),
                (self.first, of_context.unflatten(0, context.shape[:2])),
            )
        )
        return self.weights.through(states, first, self.texts).unflatten(0, (runs, -1))


class Known:
    """What follows from texts alone, whatever the context says.

    It does not hold the texts' tokens: it is kept as long as these are there.
    """

    def __init__(self, end: Int[Tensor, " text"], weights: Weights) -> None:
        self._weights = weights
        self._lengths: list[int] = (end + 1).tolist()
        self._parts: dict[tuple[int, int], list[Part]] = {}

    @torch.no_grad()
    def parts(self, tokens: Float[Tensor, "text token width"], runs: int, length: int) -> list[Part]:
        """All texts behind `length` vectors, in parts of at most `ROWS_AT_ONCE` rows (or one text)."""
        if (runs, length) not in self._parts:
            rows = [runs * (own + length) for own in self._lengths]
            self._parts[runs, length] = [
                self._part(tokens[texts], self._lengths[texts], runs, length)
                for texts in parts_of_rows(rows, ROWS_AT_ONCE)
            ]
        return self._parts[runs, length]

    def _part(
        self, tokens: Float[Tensor, "text token width"], lengths: list[int], runs: int, length: int
    ) -> Part:
        weights, device = self._weights, tokens.device
        places = torch.arange(tokens.shape[1], device=device)
        places[START:] += length
        states = weights.norm(
            without_padding(tokens + weights.positions[places], torch.tensor(lengths, device=device))
        )
        context, order, rows = range(sum(lengths), sum(lengths) + length), [], 0
        for own in lengths:
            order += [*range(rows, rows + START), *context, *range(rows + START, rows + own)]
            rows += own
        return Part(
            weights,
            Texts([own + length for own in lengths] * runs, weights.heads, like=states),
            states,
            weights.layers[0].queries_keys_values(states),
            torch.tensor(order, device=device),
        )


class Named:
    """Parts of a `BertModel` by the names that they have there."""

    def __init__(self, weights: Mapping[str, Tensor], epsilon: float) -> None:
        self._weights, self._epsilon = weights, epsilon
        self.layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[name]

    def linear(self, *names: str) -> FrozenLinear:
        """Linear layers on the same rows, side by side."""
        return side_by_side(*(Affine(*self._both(name)) for name in names))

    def norm(self, name: str) -> Callable[[Tensor], Tensor]:
        """A normalisation of rows."""
        weight, bias = self._both(name)
        return partial(
            nn.functional.layer_norm,
            normalized_shape=weight.shape,
            weight=weight,
            bias=bias,
            eps=self._epsilon,
        )

    def _both(self, name: str) -> tuple[Tensor, Tensor]:
        return self[f"{name}.weight"], self[f"{name}.bias"]


class Layer:
    """One layer's frozen weights."""

    def __init__(self, named: Named, name: str) -> None:
        attention = f"{name}.attention"
        self._queries_keys_values = named.linear(
            *(f"{attention}.self.{part}" for part in ("query", "key", "value"))
        )
        self._out = named.linear(f"{attention}.output.dense")
        self._out_norm = named.norm(f"{attention}.output.LayerNorm")
        self._wider = named.linear(f"{name}.intermediate.dense")
        self._narrower = named.linear(f"{name}.output.dense")
        self._norm = named.norm(f"{name}.output.LayerNorm")

    def queries_keys_values(self, states: Float[Tensor, "row width"]) -> Float[Tensor, "row three_widths"]:
        """Of each row, side by side."""
        return self._queries_keys_values(states)

    def finish(
        self, found: Float[Tensor, "row width"], states: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row width"]:
        """The rows behind the layer, from what attention found for them."""
        states = self._out_norm(self._out(found, add=states))
        return self._norm(self._narrower(nn.functional.gelu(self._wider(states)), add=states))
