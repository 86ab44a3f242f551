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
class ContextBackbone(Protocol):
    """A backbone that has a shorter way to the vectors of texts that share learned context."""

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """As `medvip.backbones.protocol.encode_with_context`, to floating-point order."""
        ...


@runtime_checkable
class SpatialBackbone(Protocol):
    """A backbone that also says what it sees at each place of a picture, so that one can ask where.

    Attributes
    ----------
    mean_of_places_is_image
        True where the grids' means over their places, end to end, are the vector of
        `Backbone.encode_images` (to floating-point order), so that whatever is linear in it splits over
        the places without remainder. False where places are something else than parts of the image's
        vector; there is one grid then, of vectors of the joint space.
    what_places_are
        What a place's vector is, in plain words.
    """

    mean_of_places_is_image: bool
    what_places_are: str

    def encode_places(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> tuple[Float[Tensor, "batch _row _column _width"], ...]:
        """What is seen at each place of one or several grids over the input; rows from the top.

        Several where the image's vector is made of several maps, one for each run of its numbers; their
        widths add up to `Backbone.embed_dim`.
        """
        ...

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture that `Backbone.preprocess` keeps: left, top, right, bottom.

        In pixels of the picture as it was before, so that the grid can be laid over it.
        """
        ...


@runtime_checkable
class TrainableBackbone(Protocol):
    """A backbone whose image encoder can be had as a module of its own, to be trained.

    Attributes
    ----------
    tower_dim
        How many numbers a picture's features have there.
    """

    tower_dim: int

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        """Pixels [batch, 3, size, size] to features [batch, tower_dim], all parameters to be trained.

        A copy: whatever is done to it, the backbone stays as it is. Pretrained, in evaluation
        mode, it gives what the encoder's own last layer gives: the vectors of `Backbone.encode_images`
        where those are nothing else. Otherwise its weights are random, drawn from torch's global
        generator.
        """
        ...


@torch.no_grad()
def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Float[Tensor, "text dim"]:
    """Vectors of texts as they are, without learned context and without gradients."""
    ids, end = backbone.tokenize(texts)
    return backbone.encode_tokens(backbone.embed_tokens(ids), end)


def encode_with_context(
    backbone: Backbone,
    context: Float[Tensor, "*run context token_dim"],
    tokens: Float[Tensor, "text token token_dim"],
    end: Int[Tensor, " text"],
) -> Float[Tensor, "*run text dim"]:
    """Vectors of texts that all have the same vectors put in right behind their start tokens.

    ViP's context prompt: [start, p_1 ... p_M, symptom, end]. A backbone whose text tower is causal
    (CLIP) computes the context once for all texts. In one that attends in both directions (SigLIP,
    the embedded one) context looks different in front of each text, and is computed with each from the
    first attention on.

    Parameters
    ----------
    backbone
        The frozen encoders.
    context
        The vectors, or those of several runs that have nothing else to do with each other.
    tokens
        Embedded tokens of the texts without context. Gradients flow to `context` only.
    end
        Position of each text's end token among `tokens`.
    """
    runs = context if context.ndim == 3 else context[None]
    if isinstance(backbone, ContextBackbone):
        vectors = backbone.encode_with_context(runs, tokens, end)
    else:
        vectors = backbone.encode_tokens(*inserted(runs, tokens, end, backbone.start_tokens))
        vectors = vectors.unflatten(0, (len(runs), len(tokens)))
    return vectors if context.ndim == 3 else vectors[0]


def inserted(
    context: Float[Tensor, "*run context token_dim"],
    tokens: Float[Tensor, "text token token_dim"],
    end: Int[Tensor, " text"],
    start_tokens: int,
) -> tuple[Float[Tensor, "run_text token_and_context token_dim"], Int[Tensor, " run_text"]]:
    """The texts of all runs with the context put in, and their end positions, as `encode_tokens` takes them.

    Examples
    --------
    >>> prompts, end = inserted(torch.ones(2, 1, 1), torch.zeros(3, 4, 1), torch.tensor([3, 3, 2]), 1)
    >>> prompts[0, :, 0].tolist(), end.tolist(), len(prompts)
    ([0.0, 1.0, 0.0, 0.0, 0.0], [4, 4, 3, 4, 4, 3], 6)
    """
    vectors = (context if context.ndim == 3 else context[None])[:, None].expand(-1, len(tokens), -1, -1)
    start, rest = tokens[:, :start_tokens], tokens[:, start_tokens:]
    start, rest = (part.expand(len(vectors), -1, -1, -1) for part in (start, rest))
    prompts = torch.cat([start, vectors, rest], dim=2).flatten(0, 1)
    return prompts, (end + vectors.shape[2]).repeat(len(vectors))
