"""Learned vectors inside the layers of a CLIP's two transformers: all that deep prompts need of them.

In each of the first layers of a transformer a few places hold learned vectors instead of what
the layer below made of them. Among a text's tokens they stand right behind the start token; among
a picture's patches, behind the last patch. Those of the first layer go in where a token would: in
front of the text's position vectors, but behind the picture's (as in MaPLe's released code).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvip.backbones.protocol import Backbone
from medvip.errors import UnsuitableBackbone


class DeepPromptClip:
    """The two frozen transformers of a CLIP, taking learned vectors at each of their first layers.

    Without learned vectors they give what the backbone gives.

    Parameters
    ----------
    backbone
        A CLIP from Hugging Face: both of its towers are transformers.

    Attributes
    ----------
    layers
        Of the tower that has fewer.
    image_width
        Width of the image tower, thus of a learned vector in it; that of the text tower is the
        backbone's `token_dim`.

    Raises
    ------
    UnsuitableBackbone
        The backbone is of another kind.
    """

    def __init__(self, backbone: Backbone) -> None:
        from medvip.backbones.huggingface import HuggingFaceBackbone

        if not isinstance(backbone, HuggingFaceBackbone) or backbone.family != "clip":
            raise UnsuitableBackbone(
                f"the backbone {backbone.name} is no CLIP, so it has not the two transformers whose layers "
                "deep prompts go into",
                fix="use a CLIP such as --backbone openai/clip-vit-base-patch16, or another method "
                "(vip and coop work with every backbone)",
            )
        model: Any = backbone._model  # this room's own business
        self._text, self._text_projection = model.text_model, model.text_projection
        self._image, self._image_projection = model.vision_model, model.visual_projection
        self.layers = min(len(self._text.encoder.layers), len(self._image.encoder.layers))
        self.image_width = int(model.config.vision_config.hidden_size)

    def encode_tokens(
        self,
        embeddings: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
        prompts: Float[Tensor, "layer context token_dim"],
    ) -> Float[Tensor, "text dim"]:
        """Vectors of texts given as token embeddings.

        The `context` places behind the start token are overwritten, whatever stands there.
        """
        from medvip.backbones.huggingface import causal_mask

        states = self._text.embeddings(inputs_embeds=_replaced(embeddings, prompts[0], 1))
        mask = causal_mask(states)
        for index, layer in enumerate(self._text.encoder.layers):
            if 0 < index < len(prompts):
                states = _replaced(states, prompts[index], 1)
            states = layer(states, mask, is_causal=True)
        rows = torch.arange(len(end), device=end.device)
        return self._text_projection(self._text.final_layer_norm(states[rows, end]))

    def encode_images(
        self,
        pixels: Float[Tensor, "batch 3 size size"],
        prompts: Float[Tensor, "layer context width"],
    ) -> Float[Tensor, "batch dim"]:
        """Vectors of preprocessed pictures."""
        patches = self._image.embeddings(pixels)
        first = prompts[0].expand(len(patches), -1, -1)
        states = self._image.pre_layrnorm(torch.cat([patches, first], dim=1))
        for index, layer in enumerate(self._image.encoder.layers):
            if 0 < index < len(prompts):
                states = _replaced(states, prompts[index], patches.shape[1])
            states = layer(states, None)
        return self._image_projection(self._image.post_layernorm(states[:, 0]))


def _replaced(
    states: Float[Tensor, "batch place width"], vectors: Float[Tensor, "context width"], start: int
) -> Float[Tensor, "batch place width"]:
    """With `vectors` from place `start` on."""
    behind = states[:, start + len(vectors) :]
    return torch.cat([states[:, :start], vectors.expand(len(states), -1, -1), behind], dim=1)
