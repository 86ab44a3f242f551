"""MaPLe: coupled prompts in the layers of both encoders (Khattak et al., CVPR 2023, arXiv 2210.03117).

In each of the first J layers of CLIP's text encoder, M learned vectors P_l [context, token_dim]
stand where the words before the class name would; linear layers make the vectors of the image
encoder's layers out of them:

    P'_l = P_l W_l^T + b_l      l = 1 ... J,  W_l [width, token_dim], b_l [width].

A class's logit is exp(logit_scale) * cosine(image, text), both under their prompts; training is
cross-entropy. Learned are J (M token_dim + token_dim width + width) numbers: 3,555,072 for
ViT-B/16 (token_dim 512, width 768) with M 2 and J 9.

Published settings, from the authors' code (muzairkhattak/multimodal-prompt-learning:
trainers/maple.py, clip/model.py, configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml): M 2, J 9,
"a photo of a" of which the first M words are learned and the others stay, deeper vectors from
N(0, 0.02), the linear layers of the deeper ones all from the same random weights; SGD at 0.0035,
batch 4, 5 epochs with a half cosine after one epoch at 1e-5, random resized crops and flips, the
last epoch kept, half precision (here: single). Across data sets they use J 3, 0.0026 and 2 epochs.
ViP's code configures it as a baseline with 0.001, batches of 32 and 50 epochs, on ViT-B/16 alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.backbones.deep_prompts import DeepPromptClip
from medvip.errors import UnsuitableBackbone, UsageError
from medvip.features import Table, require_pictures
from medvip.methods.class_prompts import (
    INITIAL_STD,
    plain_names,
    require_context,
    require_room,
    seeded_linear,
)
from medvip.methods.prompt_method import PromptMethod
from medvip.methods.zero_shot import cosine, probabilities
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

PAPER = Recipe(learning_rate=0.0035, epochs=5, batch_size=4, select_by="last")


class CoupledPrompts(nn.Module):
    """The learned vectors of the text encoder, and the linear layers that make the image encoder's."""

    def __init__(
        self,
        first: Float[Tensor, "context token_dim"],
        depth: int,
        image_width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        context, token_dim = first.shape
        deeper = torch.empty(depth - 1, context, token_dim)
        nn.init.normal_(deeper, std=INITIAL_STD, generator=generator)
        self.text = nn.Parameter(torch.cat([first[None].cpu(), deeper]))
        one, other = (seeded_linear(token_dim, image_width, generator) for _ in range(2))
        couplings = [one, *[other] * (depth - 1)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in couplings]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in couplings]))

    def of_images(self) -> Float[Tensor, "layer context width"]:
        """The image encoder's vectors."""
        return torch.einsum("lct,lwt->lcw", self.text, self.weight) + self.bias[:, None]


class CoupledClassifier(nn.Module):
    """Learned vectors and frozen encoders: pixels to logits."""

    tokens: Float[Tensor, "class token token_dim"]
    end: Int[Tensor, " class"]

    def __init__(
        self,
        clip: DeepPromptClip,
        prompts: CoupledPrompts,
        tokens: Float[Tensor, "class token token_dim"],
        end: Int[Tensor, " class"],
        logit_scale: float,
    ) -> None:
        super().__init__()
        self._clip, self._scale = clip, math.exp(logit_scale)
        self.prompts = prompts
        self.register_buffer("tokens", tokens)
        self.register_buffer("end", end)

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch class"]:
        """Logits; the class names are encoded once a batch."""
        images = self._clip.encode_images(pixels.to(self.end.device), self.prompts.of_images())
        return self._scale * cosine(images, self.class_vectors())

    def class_vectors(self) -> Float[Tensor, "class dim"]:
        """Of the class names under the learned vectors."""
        return self._clip.encode_tokens(self.tokens, self.end, self.prompts.text)


class MaPLe(PromptMethod):
    """Classifies images by class names, with learned vectors in the layers of both encoders.

    Pictures are encoded anew at every step, so an epoch takes as long as encoding them three
    times; none is kept, so ask for many views (``--views 100``). Predicting encodes no text.

    Parameters
    ----------
    backbone
        A CLIP from Hugging Face.
    symptoms
        Only for its plain class names, where it has some; may be None.
    context
        M, the number of learned vectors in each layer.
    depth
        J, how many layers of each encoder have them, from 1 up.
    init_words
        Words before the class name. The vectors of the first text layer start from their first
        `context` tokens and take their place; the other words stay. Where the words have fewer
        tokens, they are left out and the vectors start from small noise.
    recipe, seed
        See `medvip.methods.prompt_method.PromptMethod`. ``fast`` is ours, not tuned: three epochs
        without warm-up, the best by validation accuracy.

    Raises
    ------
    UnsuitableBackbone
        The backbone is no CLIP, or has fewer layers than `depth`.
    """

    name: ClassVar[str] = "maple"
    needs: ClassVar[Literal["features", "pixels"]] = "pixels"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": PAPER,
        "fast": replace(PAPER, epochs=3, warmup_epochs=0, select_by="accuracy"),
    }
    own_options: ClassVar[tuple[str, ...]] = ("context", "depth", "init_words")

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        context: int = 2,
        depth: int = 9,
        init_words: str = "a photo of a",
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        require_context(context)
        if depth < 1:
            raise UsageError(f"depth is {depth}", fix="use 1 or more")
        self._clip = DeepPromptClip(backbone)
        if depth > self._clip.layers:
            raise UnsuitableBackbone(
                f"depth is {depth}, but the encoders of {backbone.name} have {self._clip.layers} layers",
                fix=f"use a depth from 1 to {self._clip.layers}",
            )
        self.context, self.depth, self.init_words = context, depth, init_words
        super().__init__(backbone, symptoms, recipe, seed)

    def fit(self, train: Table, validation: Table, *, quiet: bool = True) -> MaPLe:
        """Learn vectors and couplings; keep the epoch that the recipe chooses on `validation`.

        Raises
        ------
        UsageError
            The tables hold vectors, or the prompts are too long for the text encoder.
        TrainingError
            The loss is not finite; the best epoch before that is kept.
        """
        require_pictures(train, self.name)
        super().fit(train, validation, quiet=quiet)
        return self

    @torch.no_grad()
    def predict_proba(self, images: Float[Tensor, "image 3 size size"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of exp(logit_scale) * cosine(image, class vector)."""
        state = self._fitted()
        vectors = self._clip.encode_images(images.to(self.backbone.device), state["image_prompts"])
        return probabilities(cosine(vectors, state["class_vectors"]), self.backbone.logit_scale)

    def state(self) -> dict[str, Tensor]:
        """What was learned, and what follows from it so that predicting encodes no text.

        Learned: ``text_prompts`` [layer, context, token_dim], ``coupling_weights``
        [layer, width, token_dim] and ``coupling_biases`` [layer, width]. Following from them:
        ``image_prompts`` [layer, context, width] and ``class_vectors`` [class, dim].
        """
        return super().state()

    @torch.no_grad()
    def _model(self, classes: tuple[str, ...]) -> CoupledClassifier:
        backbone, names = self.backbone, plain_names(classes, self.symptoms)
        generator = torch.Generator().manual_seed(self.seed)
        words, words_end = backbone.tokenize([self.init_words])
        start = backbone.start_tokens
        of_words = int(words_end[0]) - start >= self.context
        texts = [f"{self.init_words} {name}." if of_words else f"{name}." for name in names]
        ids, end = backbone.tokenize(texts)
        require_room(texts, end, backbone, 0 if of_words else self.context)
        tokens = backbone.embed_tokens(ids)
        if of_words:
            first = backbone.embed_tokens(words)[0, start : start + self.context]
        else:
            first = nn.init.normal_(
                torch.empty(self.context, backbone.token_dim), std=INITIAL_STD, generator=generator
            )
            places = tokens.new_zeros(len(tokens), self.context, tokens.shape[-1])
            tokens = torch.cat([tokens[:, :start], places, tokens[:, start:]], dim=1)
            end = end + self.context
        prompts = CoupledPrompts(first, self.depth, self._clip.image_width, generator)
        return CoupledClassifier(self._clip, prompts, tokens, end, backbone.logit_scale)

    @torch.no_grad()
    def _carry_over(self, model: CoupledClassifier) -> None:
        state, prompts = self._fitted(), model.prompts
        prompts.text.copy_(state["text_prompts"])
        prompts.weight.copy_(state["coupling_weights"])
        prompts.bias.copy_(state["coupling_biases"])

    def _learned(self, model: CoupledClassifier) -> dict[str, Tensor]:
        return {
            "text_prompts": model.prompts.text,
            "coupling_weights": model.prompts.weight,
            "coupling_biases": model.prompts.bias,
            "image_prompts": model.prompts.of_images(),
            "class_vectors": model.class_vectors(),
        }
