"""What the rest of medvip may ask of a pair of frozen encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn


class Tokens(NamedTuple):
    """Texts as token ids, padded to the longest of them.

    Attributes
    ----------
    ids
        Token ids, cut to the longest end position + 1.
    end
        Position of each text's end token. What stands behind it is padding.
    """

    ids: Int[Tensor, "text token"]
    end: Int[Tensor, " text"]


@runtime_checkable
class Backbone(Protocol):
    """A frozen image encoder and a frozen text encoder with one joint space.

    The text side is split in two, so that learned context vectors can be put between the
    tokens and the encoder. Both sides return vectors that are not normalised: cosine
    similarity divides by their norms.

    Attributes
    ----------
    name
        What the user asked for: ``"embedded"``, a folder or a hub id.
    image_size
        Side of the square that the image encoder takes, in pixels.
    embed_dim
        Width of the joint space.
    token_dim
        Width of a token embedding, thus of a learned context vector.
    context_length
        Largest number of tokens of one text, start, end and context vectors included.
    start_tokens
        How many tokens every text starts with (1 for CLIP and BERT, 0 for SigLIP). Learned
        context is put right after them.
    logit_scale
        Natural logarithm of the factor between cosine similarities and logits.
    device
        Where the encoders and their outputs are.
    """

    name: str
    image_size: int
    embed_dim: int
    token_dim: int
    context_length: int
    start_tokens: int
    logit_scale: float
    device: torch.device

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the vectors: weights, preprocessing, tokeniser.

        A run is refused on a backbone with another fingerprint.
        """
        ...

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> Float[Tensor, "3 size size"]:
        """An RGB picture of any size as the image encoder's input, on the CPU.

        With `framed` the picture is a square of `image_size` already (an augmented view) and is
        neither resized nor cropped.
        """
        ...

    def encode_images(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """Vectors of preprocessed pictures."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts. Never truncated: whoever adds context checks the length."""
        ...

    def embed_tokens(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token token_dim"]:
        """Token embeddings, before positions are added."""
        ...

    def encode_tokens(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Vectors of texts given as token embeddings; gradients flow through to `embeddings`."""
        ...


@runtime_checkable
class TrainableBackbone(Protocol):
    """A backbone whose image encoder can be had as a module of its own, to be trained."""

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        """Pixels [batch, 3, size, size] to vectors [batch, dim], all parameters to be trained.

        A copy: whatever is done to it, the backbone stays as it is. Pretrained, in evaluation
        mode, it gives the vectors of `Backbone.encode_images`. Otherwise its weights are random,
        drawn from torch's global generator.
        """
        ...


@torch.no_grad()
def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Float[Tensor, "text dim"]:
    """Vectors of texts as they are, without learned context and without gradients."""
    ids, end = backbone.tokenize(texts)
    return backbone.encode_tokens(backbone.embed_tokens(ids), end)
