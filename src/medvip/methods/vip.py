"""ViP: visual symptom-guided prompt learning (Fang et al., MICCAI 2024, arXiv 2409.00341).

Two small learned modules on frozen encoders:

- the *context prompt*, M vectors p_1 ... p_M that every symptom's tokens are prefixed with,
  since a language model's sentences have no obvious hand-written template;
- the *merge prompt*, which makes one vector of each class from its encoded symptoms T
  [symptom, dim] and a learned class vector g [dim] by attention:

      s = g + softmax((g W_q) (T W_k)^T / sqrt(dim)) T.

The logit of a class is exp(logit_scale) * cosine(image, s); training is cross-entropy.

Every symptom ends in a full stop (the option `full_stop`): the paper does not say so, but the authors' code
reads each as context, symptom and "." (github.com/xiaofang007/ViP, trainers/ViP.py: `prompt_prefix + " " +
item + "."`). It does so even behind a full stop that is there; here that one is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_with_context
from medvip.errors import UsageError
from medvip.methods.merge_prompt import INITIAL_STD, MergePrompt, cross_entropy_of_cosines
from medvip.methods.method import Predict
from medvip.methods.prompt_method import PromptMethod
from medvip.methods.prompts import as_read, padded, places_by_class, require_fitting, require_symptoms
from medvip.methods.zero_shot import cosine
from medvip.symptoms import SymptomSet
from medvip.training import RECIPES, Prompted, Recipe, go_back


class PromptedSymptoms(Prompted):
    """Context prompt and frozen text encoder: all symptoms of all classes with the learned context."""

    tokens: Float[Tensor, "text token token_dim"]
    end: Int[Tensor, " text"]
    present: Bool[Tensor, "class symptom"]
    places: Int[Tensor, " text"]

    def __init__(
        self,
        backbone: Backbone,
        symptoms: tuple[tuple[str, ...], ...],
        context: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._backbone = backbone
        ids, end = backbone.tokenize([text for texts in symptoms for text in texts])
        with torch.no_grad():
            self.register_buffer("tokens", backbone.embed_tokens(ids))
        self.register_buffer("end", end)
        present, places = places_by_class([len(texts) for texts in symptoms])
        self.register_buffer("present", present)
        self.register_buffer("places", places)
        self.context_prompt = nn.Parameter(torch.empty(context, backbone.token_dim))
        nn.init.normal_(self.context_prompt, std=INITIAL_STD, generator=generator)

    def encode_symptoms(self) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
        """All symptoms in one batch, once for each value of the context: without any, once in all."""
        return padded(self.encoded(), self.present, self.places)

    def learned_vectors(self) -> Float[Tensor, "context token_dim"]:
        """The context prompt."""
        return self.context_prompt

    def encode_runs(self, learned: Float[Tensor, "run context token_dim"]) -> Float[Tensor, "run text dim"]:
        """All symptoms of all runs in one batch."""
        vectors = encode_with_context(self._backbone, learned, self.tokens, self.end)
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
        self._scale = math.exp(backbone.logit_scale)
        self.to(backbone.device)

    def forward(self, images: Float[Tensor, "image dim"]) -> Float[Tensor, "image class"]:
        """Logits; the text side is encoded once, however many images there are."""
        return self._scale * cosine(images, self.merge_prompt(*self.encode_symptoms()))

    def backward(
        self, images: Float[Tensor, "image dim"], labels: Int[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the logits; leaves its gradients in what is learned.

        The text side is encoded at every `text_every`-th call only, and the context prompt learns
        at those; the calls between train the merge prompt on the symptoms as they were.
        """
        encoded = None
        if self._reused is None or self._encodes_now():
            encoded, _ = self.encode_symptoms()
            self._reused = encoded.detach()
        self._calls += 1
        merged = self.merge_prompt.merged(self._reused, self.present)
        loss, gradient = cross_entropy_of_cosines(images, labels, merged.class_vectors, self._scale)
        by_symptoms = merged.back(gradient, to_symptoms=encoded is not None and encoded.requires_grad)
        if encoded is not None and by_symptoms is not None:
            go_back(encoded, by_symptoms)
        return loss

    def _encodes_now(self) -> bool:
        return len(self.context_prompt) > 0 and self._calls % self._text_every == 0

    def to_encode(self) -> Float[Tensor, "context token_dim"] | None:
        """The context prompt at those calls that encode it."""
        return super().to_encode() if not self.training or self._encodes_now() else None


class ViP(PromptMethod):
    """Classifies images by learned mixtures of visual symptoms.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name. Classes may have different numbers of symptoms.
    context
        M, the number of learned context vectors (4 in the paper's code); 0 turns them off.
    full_stop
        Whether symptoms are closed with a full stop, as in the paper's code. Runs from before there
        was this option have False.
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
    uses_symptoms: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    own_options: ClassVar[tuple[str, ...]] = ("context", "full_stop")
    symptoms: SymptomSet

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        context: int = 4,
        full_stop: bool = True,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        if context < 0:
            raise UsageError(f"context is {context}", fix="use 0 or more context vectors")
        self.context, self.full_stop = context, full_stop
        super().__init__(backbone, symptoms, recipe, seed)

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
        model = other._model(classes)
        model.context_prompt.copy_(learned["context_prompt"])
        vectors, present = model.encode_symptoms()
        merge = model.merge_prompt
        merge.query.copy_(vectors.sum(1) / present.sum(1, keepdim=True))  # absent symptoms are zeros
        merge.query_projection.weight.copy_(learned["merge_query_projection"])
        merge.key_projection.weight.copy_(learned["merge_key_projection"])
        other._keep(classes, model)
        return other.predict_proba

    def state(self) -> dict[str, Tensor]:
        """The learned tensors, and what follows from them so that predicting encodes no text.

        Learned: ``context_prompt`` [context, token_dim], ``merge_query`` [class, dim],
        ``merge_query_projection`` and ``merge_key_projection`` [dim, dim] (a Linear layer's
        weights). Following from them: ``symptom_vectors`` [class, symptom, dim],
        ``symptom_attention`` [class, symptom] (0 where a class has no further symptom) and
        ``class_vectors`` [class, dim].
        """
        return super().state()

    def _model(self, classes: tuple[str, ...]) -> PromptedClassifier:
        require_fitting(self.symptoms, self.backbone, self.context, full_stop=self.full_stop)
        by_class = self.symptoms.for_classes(classes)
        symptoms = tuple(as_read(texts, full_stop=self.full_stop) for texts in by_class)
        return PromptedClassifier(self.backbone, symptoms, self.context, self.seed, self.recipe.text_every)

    def _learned(self, model: PromptedClassifier) -> dict[str, Tensor]:
        symptoms, present = model.encode_symptoms()
        merge = model.merge_prompt
        return {
            "context_prompt": model.context_prompt,
            "merge_query": merge.query,
            "merge_query_projection": merge.query_projection.weight,
            "merge_key_projection": merge.key_projection.weight,
            "symptom_vectors": symptoms,
            "symptom_attention": merge.attention(symptoms, present),
            "class_vectors": merge(symptoms, present),
        }
