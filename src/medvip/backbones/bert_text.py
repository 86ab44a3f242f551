"""A BERT without padding: texts of different lengths stand one behind the other.

BERT attends in both directions, so what stands before a text looks different in each: nothing is
shared here. The weights are frozen, see `medvip.backbones.frozen_linear`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvip.backbones.frozen_linear import side_by_side
from medvip.backbones.ragged import RaggedTexts, attend, in_parts, parts_of_rows, without_padding

ROWS_AT_ONCE = 4096
"""More rows are computed in parts, so that memory stays bounded (0.6 GB in MiniLM). With gradients,
each part is then computed a second time on the way back instead of being kept."""


class BertText:
    """The frozen layers of a transformers `BertModel`; a text's vector is the mean of its tokens.

    Parameters
    ----------
    model
        On the device where it stays.
    """

    @torch.no_grad()
    def __init__(self, model: Any) -> None:
        config, embeddings = model.config, model.embeddings
        self._heads = int(config.num_attention_heads)
        self._positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._norm = embeddings.LayerNorm
        self._layers = [Layer(layer) for layer in model.encoder.layer]

    def encode(
        self, embeddings: Float[Tensor, "text token width"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text width"]:
        """Mean of each text's states up to its end position; gradients flow to `embeddings`."""
        lengths = end + 1
        parts = parts_of_rows(lengths.tolist(), ROWS_AT_ONCE)
        learning = torch.is_grad_enabled() and embeddings.requires_grad
        return torch.cat(
            in_parts([(self._means, embeddings[part], lengths[part]) for part in parts], learning)
        )

    def _means(
        self, embeddings: Float[Tensor, "text token width"], lengths: Int[Tensor, " text"]
    ) -> Float[Tensor, "text width"]:
        placed = embeddings + self._positions[: embeddings.shape[1]]
        states = self._norm(without_padding(placed, lengths))
        texts = RaggedTexts(lengths.tolist(), heads=self._heads, like=states, causal=False)
        for layer in self._layers:
            states = layer(states, texts)
        text_of_row = torch.arange(len(lengths), device=states.device).repeat_interleave(lengths)
        sums = states.new_zeros(len(lengths), states.shape[1]).index_add(0, text_of_row, states)
        return sums / lengths[:, None]


class Layer:
    """One layer's frozen weights, taken from a `BertLayer`."""

    def __init__(self, layer: Any) -> None:
        attention = layer.attention
        itself = attention.self
        self._queries_keys_values = side_by_side(itself.query, itself.key, itself.value)
        self._out, self._out_norm = side_by_side(attention.output.dense), attention.output.LayerNorm
        self._wider = side_by_side(layer.intermediate.dense)
        self._activation = layer.intermediate.intermediate_act_fn
        self._narrower, self._norm = side_by_side(layer.output.dense), layer.output.LayerNorm

    def __call__(self, states: Float[Tensor, "row width"], texts: RaggedTexts) -> Float[Tensor, "row width"]:
        """The rows behind the layer."""
        rows = self._queries_keys_values(states).view(-1, states.shape[1])
        states = self._out_norm(self._out(attend(rows, texts.every_row), add=states))
        return self._norm(self._narrower(self._activation(self._wider(states)), add=states))
