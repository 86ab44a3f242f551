"""CLIP's text tower, computing nothing that is known, shared or never looked at.

The tower is causal and is read off at the end token, and nothing in it is learned. So, all exactly:

- the start token sees only itself: its keys and values are computed once for all;
- learned context behind it is the same in front of all texts: its rows are computed once, and all
  texts attend to them;
- texts stand one behind the other without padding, and nothing behind an end token is there;
- in the first layer, queries, keys and values of the texts' own tokens are computed once for all;
- in the last layer only the end tokens ask, and only they go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.backbones.frozen_linear import FrozenLinear, side_by_side
from medvip.backbones.kept_texts import KeptTexts
from medvip.backbones.ragged import RaggedTexts, attend, in_parts, parts_of_rows, without_padding

ROWS_AT_ONCE = 4096
"""More rows are computed in parts, so that memory stays bounded (1 GB in CLIP ViT-B/16). With
gradients, each part is then computed a second time on the way back instead of being kept."""

START = 1
"""CLIP's texts begin with one token, which is always the same."""


class ClipText:
    """The frozen text tower of a transformers `CLIPModel`.

    Its weights are read when a text is first encoded, and again when the model has changed its
    type or device since.

    Parameters
    ----------
    tower
        A `CLIPTextModel`.
    projection
        From the tower's width into the joint space.
    """

    def __init__(self, tower: Any, projection: nn.Linear) -> None:
        self._tower, self._projection = tower, projection
        self._weights: Weights | None = None
        self._known = KeptTexts[Known]()

    def encode(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Vectors of texts given as token embeddings; gradients flow to `embeddings`."""
        weights, lengths = self._read(), end + 1

        def encode(part: slice) -> Tensor:
            placed = embeddings[part] + weights.positions[: embeddings.shape[1]]
            texts = RaggedTexts(lengths[part].tolist(), heads=weights.heads, like=placed)
            return weights.through(without_padding(placed, lengths[part]), texts)

        parts = parts_of_rows(lengths.tolist(), ROWS_AT_ONCE)
        learning = torch.is_grad_enabled() and embeddings.requires_grad
        return torch.cat(in_parts([(encode, part) for part in parts], learning))

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """Vectors of texts with context behind the start token; gradients flow to `context` alone.

        `tokens` and `end` are those of the texts without context. What follows from them alone is
        kept as long as `tokens` is.
        """
        weights, (runs, length) = self._read(), context.shape[:2]
        known = self._known.of(tokens, end, lambda: Known(tokens, end, weights))
        parts = known.parts(tokens, runs, length)
        placed = context + weights.positions[START : START + length]
        learning = torch.is_grad_enabled() and context.requires_grad
        return torch.cat(in_parts([(part.encode, placed) for part in parts], learning), dim=1)

    def _read(self) -> Weights:
        now = self._projection.weight
        if self._weights is None or (self._weights.dtype, self._weights.device) != (now.dtype, now.device):
            self._weights = Weights(self._tower, self._projection)
            self._known = KeptTexts[Known]()
        return self._weights


class Weights:
    """All layers of the tower, and the way through them.

    Attributes
    ----------
    positions
        Vectors that are added to the token embeddings.
    layers
        The last one apart, see `LastLayer`.
    """

    @torch.no_grad()
    def __init__(self, tower: Any, projection: nn.Linear) -> None:
        self.dtype, self.device = projection.weight.dtype, projection.weight.device
        self.positions: Tensor = tower.embeddings.position_embedding.weight.detach()
        self.heads = int(tower.config.num_attention_heads)
        *layers, last = tower.encoder.layers
        self.layers, self.last = [Layer(layer) for layer in layers], LastLayer(last)
        self._final_norm = tower.final_layer_norm
        self._projection = FrozenLinear(projection.weight, projection.bias)
        self._of_start: tuple[Tensor | None, list[Tensor]] = None, []

    def through(
        self,
        states: Float[Tensor, "row width"],
        texts: RaggedTexts,
        start: Sequence[Float[Tensor, "2 width"]] = (),
        first: Float[Tensor, "row three_widths"] | None = None,
    ) -> Float[Tensor, "vector dim"]:
        """Vectors of the texts in the joint space.

        `states` are the rows with their positions. `start` has the start token's key and value in
        each layer, the last included; `first` has the first layer's queries, keys and values where
        they are known.
        """
        width = states.shape[1]
        for index, layer in enumerate(self.layers):
            wide = first if index == 0 and first is not None else layer.queries_keys_values(states)
            found = attend(wide.view(-1, width), texts.every_row, start[index] if start else None)
            states = layer.finish(found, states)
        queries, keys_values = self.last.queries_and_keys_values(states, texts.last)
        rows = torch.cat([queries, keys_values.view(-1, width)])
        found = attend(rows, texts.last_rows, start[-1] if start else None)
        ends = self.last.finish(found, states.index_select(0, texts.last))
        return self._projection(self._final_norm(ends))

    def of_start(self, token: Float[Tensor, "1 width"]) -> list[Float[Tensor, "2 width"]]:
        """The start token's key and value in each layer. It sees only itself, so it finds its value."""
        token_before, known = self._of_start
        if token_before is not None and torch.equal(token, token_before):
            return known
        states, found = token + self.positions[:START], []
        for layer in self.layers:
            _, key, value = layer.queries_keys_values(states).view(3, 1, -1)
            found.append(torch.cat([key, value]))
            states = layer.finish(value, states)
        itself = torch.zeros(1, dtype=torch.long, device=self.device)
        _, keys_values = self.last.queries_and_keys_values(states, itself)
        self._of_start = token.clone(), [*found, keys_values.view(2, -1)]
        return self._of_start[1]


class Layer:
    """One layer's frozen weights, taken from a `CLIPEncoderLayer`."""

    def __init__(self, layer: Any) -> None:
        attention, self._norm, self._middle_norm = layer.self_attn, layer.layer_norm1, layer.layer_norm2
        self._take(attention.q_proj, attention.k_proj, attention.v_proj)
        self._out = FrozenLinear(attention.out_proj.weight, attention.out_proj.bias)
        self._activation, scale = _activation(layer.mlp)
        self._wider = FrozenLinear(layer.mlp.fc1.weight * scale, layer.mlp.fc1.bias * scale)
        self._narrower = FrozenLinear(layer.mlp.fc2.weight / scale, layer.mlp.fc2.bias)

    def _take(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        self._queries_keys_values = side_by_side(query, key, value)

    def queries_keys_values(self, states: Float[Tensor, "row width"]) -> Float[Tensor, "row three_widths"]:
        """Of each row, side by side."""
        return self._queries_keys_values(self._norm(states))

    def finish(
        self, found: Float[Tensor, "row width"], states: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row width"]:
        """The rows behind the layer, from what attention found for them."""
        states = self._out(found, add=states)
        return self._narrower(self._activation(self._wider(self._middle_norm(states))), add=states)


class LastLayer(Layer):
    """The last layer, where only some rows ask."""

    def _take(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        self._query, self._keys_values = side_by_side(query), side_by_side(key, value)

    def queries_and_keys_values(
        self, states: Float[Tensor, "row width"], asking: Int[Tensor, " query"]
    ) -> tuple[Float[Tensor, "query width"], Float[Tensor, "row two_widths"]]:
        """Queries of the rows `asking`; keys and values of all rows, side by side."""
        normed = self._norm(states)
        return self._query(normed.index_select(0, asking)), self._keys_values(normed)


class Part(NamedTuple):
    """As many texts as are computed at once, and what follows from them alone.

    Attributes
    ----------
    weights
        Of the tower.
    texts
        Where the rows stand.
    states
        The rows of the texts' own tokens, without start, with their positions.
    first
        Their queries, keys and values in the first layer, unless that is the last, too.
    start
        The start token's key and value in each layer.
    """

    weights: Weights
    texts: RaggedTexts
    states: Float[Tensor, "row width"]
    first: Float[Tensor, "row three_widths"] | None
    start: Sequence[Float[Tensor, "2 width"]]

    def encode(self, context: Float[Tensor, "run context width"]) -> Float[Tensor, "run text dim"]:
        """Vectors of these texts behind the context of each run."""
        runs, length, _ = context.shape
        states = torch.cat([context, self.states.expand(runs, -1, -1)], dim=1).flatten(0, 1)
        first = self.first
        if first is not None:
            of_context = self.weights.layers[0].queries_keys_values(context.flatten(0, 1))
            of_context = of_context.view(runs, length, first.shape[1])
            first = torch.cat([of_context, first.expand(runs, -1, -1)], dim=1).flatten(0, 1)
        return self.weights.through(states, self.texts, self.start, first).unflatten(0, (runs, -1))


class Known:
    """What follows from texts alone, whatever the context says.

    Raises
    ------
    ValueError
        Not all texts begin with the same token.
    """

    def __init__(
        self, tokens: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"], weights: Weights
    ) -> None:
        if not bool((tokens[:, :START] == tokens[:1, :START]).all()):
            raise ValueError("not all texts begin with the same token")
        self._weights = weights
        self._lengths = (end + 1 - START).tolist()
        with torch.no_grad():
            self._start = weights.of_start(tokens[0, :START])
        self._parts: dict[tuple[int, int], list[Part]] = {}

    @torch.no_grad()
    def parts(self, tokens: Float[Tensor, "text token token_dim"], runs: int, context: int) -> list[Part]:
        """All texts, in parts of at most `ROWS_AT_ONCE` rows (or one text)."""
        if (runs, context) not in self._parts:
            first = START + context
            placed = tokens[:, START:] + self._weights.positions[first : first + tokens.shape[1] - START]
            self._parts[runs, context] = [
                self._part(placed[texts], self._lengths[texts], runs, context)
                for texts in parts_of_rows(self._lengths, ROWS_AT_ONCE // runs - context)
            ]
        return self._parts[runs, context]

    def _part(
        self, placed: Float[Tensor, "text token token_dim"], lengths: list[int], runs: int, context: int
    ) -> Part:
        texts = RaggedTexts(
            lengths, heads=self._weights.heads, like=placed, shared=context, start=True, runs=runs
        )
        states = without_padding(placed, torch.tensor(lengths, device=placed.device))
        layers = self._weights.layers
        first = layers[0].queries_keys_values(states) if layers else None
        return Part(self._weights, texts, states, first, self._start)


def _activation(mlp: Any) -> tuple[Callable[[Tensor], Tensor], float]:
    """What the layer puts between its two products, and a factor that belongs into these.

    CLIP's own is x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and torch has silu as one operation.
    """
    if mlp.config.hidden_act == "quick_gelu":
        return nn.functional.silu, 1.702
    return mlp.activation_fn, 1.0
