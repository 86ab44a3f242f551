"""Variational prompt tuning (Derakhshani et al., ICCV 2023, arXiv 2210.02390: Bayesian prompt learning).

Not visual prompt tuning, which has the same initials. Instead of one context there is a
distribution of them: a residual r, added to every learned vector, has a posterior

    r ~ N(m, diag(exp(v)))      m, v [token_dim]: learned, or two small networks' output for the
                                normalised image vector (`conditional`).

The probability of a class is the mean over `samples` draws of the softmax of exp(logit_scale) *
cosine(image, prompt with p_i + r). The loss is its negative logarithm for the true class plus
kl_weight * KL(posterior || N(0, 1)), both a mean (over images, over dimensions).

Published settings, from the authors' code (saic-fi/Bayesian-Prompt-Learning: trainers/vpt.py,
configs/trainers/VPT/vit_b16_c4_ep10_batch1_ctxv1.yaml, VPT.md): not conditional, 10 samples in
training and in prediction, kl_weight 0.001, M 4 from "a photo of a", m from 0, v from U(0, 1), the
networks of three layers with ELU and dim/2 hidden units; SGD at 0.002, batch 1, a half cosine
after one epoch at 1e-5, the last epoch kept. Their commands give each data set samples (5 to 40)
and epochs (10 to 60) of its own; the defaults here are those for ImageNet, 10 and 10. ViP's code
runs it as a baseline conditionally, with small noise to start from, at 0.001 and for 50 epochs.
Another number of samples in prediction than in training was not found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import UsageError
from medvip.methods.class_prompts import (
    ClassPrompts,
    initial_context,
    plain_names,
    require_context,
    seeded_linear,
)
from medvip.methods.prompt_method import FAST, PromptMethod
from medvip.methods.zero_shot import cosine
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

IMAGES_AT_ONCE = 64
"""Images that have class vectors of their own are classified in parts of this many."""


class SharedPosterior(nn.Module):
    """One posterior for all images."""

    def __init__(self, token_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(token_dim))
        self.log_variance = nn.Parameter(torch.rand(token_dim, generator=generator))

    def forward(
        self, images: Float[Tensor, "image dim"]
    ) -> tuple[Float[Tensor, "1 token_dim"], Float[Tensor, "1 token_dim"]]:
        """Mean and logarithm of the variance; `images` are not looked at."""
        return self.mean[None], self.log_variance[None]


class ImagePosterior(nn.Module):
    """A posterior for each image, from its normalised vector."""

    def __init__(self, image_dim: int, token_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = max(1, image_dim // 2)
        widths = (image_dim, hidden, hidden, token_dim)
        self.mean, self.log_variance = (
            nn.Sequential(
                seeded_linear(widths[0], widths[1], generator),
                nn.ELU(),
                seeded_linear(widths[1], widths[2], generator),
                nn.ELU(),
                seeded_linear(widths[2], widths[3], generator),
            )
            for _ in range(2)
        )

    def forward(
        self, images: Float[Tensor, "image dim"]
    ) -> tuple[Float[Tensor, "image token_dim"], Float[Tensor, "image token_dim"]]:
        """Mean and logarithm of the variance for each image."""
        return self.mean(images), self.log_variance(images)


class VariationalClassifier(nn.Module):
    """Context plus draws from a posterior, frozen text encoder: image vectors to log-probabilities."""

    draws: Float[Tensor, "sample token_dim"]

    def __init__(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "context token_dim"],
        posterior: SharedPosterior | ImagePosterior,
        *,
        logit_scale: float,
        kl_weight: float,
        samples: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.context = nn.Parameter(context)
        self.posterior = posterior
        self.scale = math.exp(logit_scale)
        self.kl_weight = kl_weight
        self.register_buffer("draws", torch.randn(samples, context.shape[-1], generator=generator))
        self._generator = generator

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logarithm of the mean probability over the fixed draws: the same every time."""
        return self.probabilities(images).log().to(images.dtype)

    def probabilities(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Mean over the fixed draws, in double precision."""
        images = self._normalised(images)
        shared = isinstance(self.posterior, SharedPosterior)
        rows = []
        for part in [images] if shared else images.split(IMAGES_AT_ONCE):
            mean, log_variance = self.posterior(part)
            vectors = self.class_vectors(mean, log_variance, self.draws[None])
            rows.append(self.logits(part, vectors).double().softmax(-1).mean(1))
        return torch.cat(rows)

    def backward(
        self, images: Float[Tensor, "image dim"], labels: Int[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Gradients of the negative log-probability, with new draws, and of the posterior's distance."""
        loss = self.loss(images, labels, self._new_draws(len(images)))
        loss.backward()
        return loss.detach()

    def loss(
        self,
        images: Float[Tensor, "image dim"],
        labels: Int[Tensor, " image"],
        draws: Float[Tensor, "posterior sample token_dim"],
    ) -> Float[Tensor, ""]:
        """With given draws: one set for all images, or one for each."""
        images = self._normalised(images)
        mean, log_variance = self.posterior(images)
        logits = self.logits(images, self.class_vectors(mean, log_variance, draws))
        of_label = logits.log_softmax(-1)[torch.arange(len(labels), device=labels.device), :, labels]
        likelihood = of_label.logsumexp(1) - math.log(of_label.shape[1])
        return self.kl_weight * distance_to_prior(mean, log_variance) - likelihood.mean()

    def class_vectors(
        self,
        mean: Float[Tensor, "posterior token_dim"],
        log_variance: Float[Tensor, "posterior token_dim"],
        draws: Float[Tensor, "#posterior sample token_dim"],
    ) -> Float[Tensor, "posterior sample class dim"]:
        """Of each class under each draw from each posterior (one for all images, or one for each)."""
        residual = mean[:, None] + draws * (log_variance / 2).exp()[:, None]
        contexts = (self.context + residual[:, :, None]).flatten(0, 1)
        classes = len(self.prompts.tokens)
        vectors = self.prompts(contexts[:, None].expand(-1, classes, -1, -1))
        return vectors.unflatten(0, residual.shape[:2])

    def logits(
        self,
        images: Float[Tensor, "image dim"],
        vectors: Float[Tensor, "posterior sample class dim"],
    ) -> Float[Tensor, "image sample class"]:
        """Of normalised images under each draw."""
        vectors = nn.functional.normalize(vectors, dim=-1)
        if len(vectors) == 1:
            return self.scale * (images @ vectors.flatten(0, 2).T).unflatten(1, vectors.shape[1:3])
        return self.scale * torch.einsum("id,iscd->isc", images, vectors)

    def _normalised(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image dim"]:
        return nn.functional.normalize(images.to(self.context.device), dim=-1)

    def _new_draws(self, images: int) -> Float[Tensor, "posterior sample token_dim"]:
        sets = 1 if isinstance(self.posterior, SharedPosterior) else images
        return torch.randn(sets, *self.draws.shape, generator=self._generator).to(self.draws.device)


def distance_to_prior(
    mean: Float[Tensor, "posterior token_dim"], log_variance: Float[Tensor, "posterior token_dim"]
) -> Float[Tensor, ""]:
    """KL(N(mean, variance) || N(0, 1)), the mean over dimensions (and images)."""
    return (log_variance.exp() + mean.square() - 1 - log_variance).mean() / 2


class VariationalPrompts(PromptMethod):
    """Classifies images by class names in a learned distribution of contexts.

    Not `conditional`, the draws that predict are fixed, and with them the class vectors:
    predicting encodes no text. Conditional, classes have no fixed vectors: predicting encodes
    all class names anew for every image and draw, so it needs the text encoder too (loaded when
    first asked) and takes as long as training does.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Only for its plain class names, where it has some; may be None.
    context
        M, the number of learned vectors.
    init_words
        Words whose tokens the vectors start from; none: small noise.
    conditional
        Whether the posterior depends on the image.
    samples
        Draws from the posterior: new ones at each step, fixed ones in prediction.
    kl_weight
        Of the posterior's distance to N(0, 1) in the loss.
    recipe, seed
        See `PromptMethod`; the seed decides the draws too.
    """

    name: ClassVar[str] = "vpt"
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": Recipe(epochs=10, batch_size=1, select_by="last"),
        "fast": FAST,
    }
    own_options: ClassVar[tuple[str, ...]] = ("context", "init_words", "conditional", "samples", "kl_weight")

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet | None = None,
        *,
        context: int = 4,
        init_words: str = "a photo of a",
        conditional: bool = False,
        samples: int = 10,
        kl_weight: float = 0.001,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        require_context(context)
        if samples < 1:
            raise UsageError(f"samples is {samples}", fix="use 1 or more")
        if not kl_weight >= 0:
            raise UsageError(f"kl_weight is {kl_weight}", fix="use 0 or more")
        self.context, self.init_words, self.conditional = context, init_words, conditional
        self.samples, self.kl_weight = samples, kl_weight
        super().__init__(backbone, symptoms, recipe, seed)

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Mean over the fixed draws of the softmax of exp(logit_scale) * cosine(image, prompt)."""
        state = self._fitted()
        if self.conditional:
            prompts = ClassPrompts.of_tensors(self.backbone, state)
            model = self._classifier(prompts, state["context"], torch.Generator())
            model.to(self.backbone.device).load_state_dict(state)
            with torch.no_grad():
                return model.probabilities(images).cpu().numpy()
        vectors = state["class_vectors"]
        similarity = cosine(images, vectors.flatten(0, 1)).unflatten(1, vectors.shape[:2])
        scaled = math.exp(self.backbone.logit_scale) * similarity.double()
        return scaled.softmax(-1).mean(1).cpu().numpy()

    def state(self) -> dict[str, Tensor]:
        """What was learned, and what predicting needs besides.

        Always ``context`` [context, token_dim] and ``draws`` [sample, token_dim]. Not conditional:
        ``posterior.mean`` and ``posterior.log_variance`` [token_dim], and ``class_vectors``
        [sample, class, dim]. Conditional: ``posterior.mean.0`` ... ``.4`` and
        ``posterior.log_variance.0`` ... ``.4``, weights and biases of the two networks, and the
        embedded class names ``prompts.tokens``, ``prompts.end``, ``prompts.order``.
        """
        return super().state()

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        names = plain_names(classes, self.symptoms)
        prompts = ClassPrompts.of_names(self.backbone, names, self.context)
        generator = torch.Generator().manual_seed(self.seed)
        context = initial_context(self.backbone, self.init_words, self.context, None, generator)
        return self._classifier(prompts, context, generator)

    def _classifier(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "context token_dim"],
        generator: torch.Generator,
    ) -> VariationalClassifier:
        token_dim = self.backbone.token_dim
        if self.conditional:
            posterior = ImagePosterior(self.backbone.embed_dim, token_dim, generator)
        else:
            posterior = SharedPosterior(token_dim, generator)
        return VariationalClassifier(
            prompts,
            context,
            posterior,
            logit_scale=self.backbone.logit_scale,
            kl_weight=self.kl_weight,
            samples=self.samples,
            generator=generator,
        )

    @torch.no_grad()
    def _carry_over(self, model: VariationalClassifier) -> None:
        super()._carry_over(model)
        model.draws.copy_(self._fitted()["draws"])

    def _learned(self, model: VariationalClassifier) -> dict[str, Tensor]:
        if self.conditional:
            return model.state_dict()
        assert isinstance(model.posterior, SharedPosterior)
        mean, log_variance = model.posterior.mean, model.posterior.log_variance
        return {
            "context": model.context,
            "posterior.mean": mean,
            "posterior.log_variance": log_variance,
            "draws": model.draws,
            "class_vectors": model.class_vectors(mean[None], log_variance[None], model.draws[None])[0],
        }
