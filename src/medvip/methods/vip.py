"""ViP: visual symptom-guided prompt learning (Fang et al., MICCAI 2024, arXiv 2409.00341).

Two small learned modules on frozen encoders:

- the *context prompt*, M vectors p_1 ... p_M that every symptom's tokens are prefixed with,
  since a language model's sentences have no obvious hand-written template;
- the *merge prompt*, which makes one vector of each class from its encoded symptoms T
  [symptom, dim] and a learned class vector g [dim] by attention:

      s = g + softmax((g W_q) (T W_k)^T / sqrt(dim)) T.

The logit of a class is exp(logit_scale) * cosine(image, s); training is cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.errors import NotFittedError, UsageError
from medvip.features import FeatureTable
from medvip.methods.encoded_once import EncodedOnce
from medvip.methods.method import Predict
from medvip.methods.prompts import insert_context, padded_by_class, require_fitting, require_symptoms
from medvip.methods.zero_shot import cosine, probabilities
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Recipe, get_recipe, train_model

INITIAL_STD = 0.02
"""Of context and class vectors (reference code)."""


class MergePrompt(nn.Module):
    """One vector a class from its symptoms: s = g + softmax((g W_q)(T W_k)^T / sqrt(dim)) T.

    Sized by the width of the joint space, which symptoms and images share; a text tower's own
    width may differ. W_q and W_k are shared by all classes. There is no value projection.
    """

    def __init__(self, classes: int, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(classes, dim))
        self.query_projection = nn.Linear(dim, dim, bias=False)
        self.key_projection = nn.Linear(dim, dim, bias=False)
        nn.init.normal_(self.query, std=INITIAL_STD, generator=generator)
        nn.init.xavier_normal_(self.query_projection.weight, generator=generator)
        nn.init.xavier_normal_(self.key_projection.weight, generator=generator)

    def attention(
        self, symptoms: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "class symptom"]:
        """Weight of each symptom in its class; rows sum to 1, absent symptoms have 0."""
        queries, keys = self.query_projection(self.query), self.key_projection(symptoms)
        scores = torch.einsum("cd,csd->cs", queries, keys) / math.sqrt(queries.shape[-1])
        return scores.masked_fill(~present, -torch.inf).softmax(-1)

    def forward(
        self, symptoms: Float[Tensor, "class symptom dim"], present: Bool[Tensor, "class symptom"]
    ) -> Float[Tensor, "class dim"]:
        """The representative vector s of each class."""
        return self.query + torch.einsum("cs,csd->cd", self.attention(symptoms, present), symptoms)


class PromptedSymptoms(nn.Module):
    """Context prompt and frozen text encoder: all symptoms of all classes with the learned context."""

    tokens: Float[Tensor, "text token token_dim"]
    end: Int[Tensor, " text"]

    def __init__(
        self,
        backbone: Backbone,
        symptoms: tuple[tuple[str, ...], ...],
        context: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._backbone = backbone
        self._counts = [len(texts) for texts in symptoms]
        self._encoded = EncodedOnce()
        ids, end = backbone.tokenize([text for texts in symptoms for text in texts])
        with torch.no_grad():
            self.register_buffer("tokens", backbone.embed_tokens(ids))
        self.register_buffer("end", end + context)
        self.context_prompt = nn.Parameter(torch.empty(context, backbone.token_dim))
        nn.init.normal_(self.context_prompt, std=INITIAL_STD, generator=generator)

    def encode_symptoms(self) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
        """All symptoms in one batch, once for each value of the context: without any, once in all."""
        return padded_by_class(self._encoded(self.context_prompt, self._encode), self._counts)

    def _encode(self) -> Float[Tensor, "text dim"]:
        prompts = insert_context(self.tokens, self.context_prompt, self._backbone.start_tokens)
        vectors = self._backbone.encode_tokens(prompts, self.end)
        return vectors if len(self.context_prompt) else vectors.detach()


class PromptedClassifier(PromptedSymptoms):
    """Context prompt, frozen text encoder, merge prompt: image vectors to logits."""

    def __init__(
        self,
        backbone: Backbone,
        symptoms: tuple[tuple[str, ...], ...],
        context: int,
        seed: int,
        text_every: int = 1,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__(backbone, symptoms, context, generator)
        self._text_every, self._calls = text_every, 0
        self._reused: Float[Tensor, "class symptom dim"] | None = None
        self.merge_prompt = MergePrompt(len(symptoms), backbone.embed_dim, generator)
        self.to(backbone.device)

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logits; the text side is encoded once, however many images there are.

        In training it is encoded at every `text_every`-th call only, and the context prompt
        learns at those; the calls between train the merge prompt on the symptoms as they were.
        """
        symptoms, present = self._symptoms_for_training() if self.training else self.encode_symptoms()
        class_vectors = self.merge_prompt(symptoms, present)
        return math.exp(self._backbone.logit_scale) * cosine(images, class_vectors)

    def _symptoms_for_training(
        self,
    ) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
        if self._reused is None or self._calls % self._text_every == 0:
            symptoms, self._present = self.encode_symptoms()
            self._reused = symptoms.detach()
        else:
            symptoms = self._reused
        self._calls += 1
        return symptoms, self._present


class ViP:
    """Classifies images by learned mixtures of visual symptoms.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name. Classes may have different numbers of symptoms.
    context
        M, the number of learned context vectors (4 in the paper's code); 0 turns them off.
    recipe
        How to train: ``"paper"``, ``"fast"`` or a `medvip.training.Recipe`.
    seed
        Of the initial vectors and of the order of the images.

    Attributes
    ----------
    classes
        In the order of the columns of `predict_proba`.
    history
        One entry for each epoch: loss, learning rate, validation scores.

    Examples
    --------
    >>> from medvip import ViP, SymptomSet, compute_features, load_backbone, load_dataset
    >>> backbone = load_backbone("embedded")                          # doctest: +SKIP
    >>> features = compute_features(load_dataset("images"), backbone) # doctest: +SKIP
    >>> model = ViP(backbone, SymptomSet.load("symptoms.json"))       # doctest: +SKIP
    >>> model.fit(features.train, features.val).predict_proba(features.test.plain) # doctest: +SKIP
    """

    name: ClassVar[str] = "vip"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        context: int = 4,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        if context < 0:
            raise UsageError(f"context is {context}", fix="use 0 or more context vectors")
        self.backbone, self.symptoms = backbone, symptoms
        self.context, self.seed = context, seed
        self.recipe = get_recipe(recipe, self.recipes)
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, float]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ViP:
        """Learn both prompts by cross-entropy; keep the best epoch on `validation`.

        Raises
        ------
        SymptomError
            The symptoms do not fit the classes, or are too long for the text encoder.
        TrainingError
            The loss is not finite; the best epoch before that is kept.
        """
        require_fitting(self.symptoms, self.backbone, self.context)
        self.classes, self.history, self._state = (), [], {}
        model = self._model(train.classes)
        try:
            train_model(model, train, validation, self.recipe, self.seed, self.history, quiet=quiet)
        finally:
            if any("best" in entry for entry in self.history):
                self._keep(train.classes, model)
        return self

    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of exp(logit_scale) * cosine(image, s)."""
        similarity = cosine(images, self._fitted("class_vectors"))
        return probabilities(similarity, self.backbone.logit_scale)

    @torch.no_grad()
    def on_new_classes(self, classes: tuple[str, ...], symptoms: SymptomSet | None) -> Predict:
        """How to tell apart classes that `fit` never saw, by their symptoms in the learned context.

        The merge prompt needs a vector g of each class, and none was learned for these. The paper
        says nothing of new classes; our reading: g is the mean of the class's encoded symptoms, so
        that s = g + softmax((g W_q)(T W_k)^T / sqrt(dim)) T weighs them by the learned W_q and W_k.

        Parameters
        ----------
        classes
            By name, in the order of the columns.
        symptoms
            Of these classes.

        Raises
        ------
        NotFittedError
            Before `fit` or `load_state`.
        UsageError, SymptomError
            The symptoms are missing, or too long for the text encoder.
        """
        learned = self.state()
        other = type(self)(self.backbone, require_symptoms(self.name, symptoms), **self.options())
        require_fitting(other.symptoms, self.backbone, self.context)
        model = other._model(classes)
        model.context_prompt.copy_(learned["context_prompt"])
        vectors, present = model.encode_symptoms()
        merge = model.merge_prompt
        merge.query.copy_(vectors.sum(1) / present.sum(1, keepdim=True))  # absent symptoms are zeros
        merge.query_projection.weight.copy_(learned["merge_query_projection"])
        merge.key_projection.weight.copy_(learned["merge_key_projection"])
        other._keep(classes, model)
        return other.predict_proba

    def options(self) -> dict[str, Any]:
        """``context``, ``recipe`` and ``seed``."""
        return {"context": self.context, "recipe": asdict(self.recipe), "seed": self.seed}

    def state(self) -> dict[str, Tensor]:
        """The learned tensors, and what follows from them so that predicting encodes no text.

        Learned: ``context_prompt`` [context, token_dim], ``merge_query`` [class, dim],
        ``merge_query_projection`` and ``merge_key_projection`` [dim, dim] (a Linear layer's
        weights). Following from them: ``symptom_vectors`` [class, symptom, dim],
        ``symptom_attention`` [class, symptom] (0 where a class has no further symptom) and
        ``class_vectors`` [class, dim].
        """
        self._fitted("class_vectors")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ViP:
        """From what `state` gave."""
        self.classes = classes
        self._state = {name: tensor.to(self.backbone.device) for name, tensor in state.items()}
        return self

    def _model(self, classes: tuple[str, ...]) -> PromptedClassifier:
        symptoms = self.symptoms.for_classes(classes)
        return PromptedClassifier(self.backbone, symptoms, self.context, self.seed, self.recipe.text_every)

    @torch.no_grad()
    def _keep(self, classes: tuple[str, ...], model: PromptedClassifier) -> None:
        symptoms, present = model.encode_symptoms()
        merge = model.merge_prompt
        state = {
            "context_prompt": model.context_prompt,
            "merge_query": merge.query,
            "merge_query_projection": merge.query_projection.weight,
            "merge_key_projection": merge.key_projection.weight,
            "symptom_vectors": symptoms,
            "symptom_attention": merge.attention(symptoms, present),
            "class_vectors": merge(symptoms, present),
        }
        self.load_state(classes, {name: tensor.detach().clone() for name, tensor in state.items()})

    def _fitted(self, tensor: str) -> Tensor:
        if tensor not in self._state:
            raise NotFittedError("this ViP has learned nothing yet", fix="call fit first")
        return self._state[tensor]
