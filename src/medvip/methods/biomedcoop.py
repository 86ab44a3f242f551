"""BiomedCoOp: CoOp taught by an ensemble of descriptions (Koleilat et al., CVPR 2025, arXiv 2411.15232).

A class has several sentences that a language model wrote; here "a photo of a <name>, <symptom>."
for each of its symptoms. With e_ci their normalised vectors, w_c the class's normalised vector
under the learned context and f an image:

    loss = cross-entropy
         + consistency * mean squared difference of w_c and normalised mean_i e_ci
         + distillation * KL(teacher || learned) / classes,

where the teacher is the zero-shot prediction with the normalised mean of those e_ci that are no
outliers. The score of a sentence is its mean logit over the batch; it is an outlier in its class
where |score - median| > tau * MAD, the median of all |score - median|.

From the authors' code (HealthX-Lab/BiomedCoOp: trainers/biomedcoop_*.py, train.py, assets/RUN.md):
M 4 from "a photo of a", name at the end, tau 1.5, 50 sentences a class, batch 4; the squared
difference is a mean over classes and dimensions, KL one over images and classes. SGD at 0.0025,
100 epochs with a half cosine after one at 1e-5, the last epoch kept, and the two weights come from
copies of its configuration files, which are not in the stored repository: 0.5 and 0.25 for brain
MRI, taken here as the default, and others for other sets (0.75 and 0.75 for breast ultrasound).

What differs: the code scores whole rows, the i-th sentence of every class together (mean over
images of the largest logit). Symptoms have no such order and classes may have different numbers
of them, so here each class is pruned alone. The code also standardises the scores once more after
dividing by the MAD, which cancels the MAD; here the rule is the MAD's own. How the paper's text
words the rule could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from medvip.backbones import Backbone
from medvip.backbones.protocol import encode_texts
from medvip.errors import UsageError
from medvip.methods.class_prompts import ClassPrompts, plain_names, require_room
from medvip.methods.coop import ContextClassifier, CoOp
from medvip.methods.prompt_method import FAST
from medvip.methods.prompts import closed, padded_by_class, require_fitting
from medvip.methods.zero_shot import cosine
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

SENTENCE = "a photo of a {name}, {symptom}"


def no_outliers(
    scores: Float[Tensor, "class symptom"], present: Bool[Tensor, "class symptom"], tau: float
) -> Bool[Tensor, "class symptom"]:
    """Where a class's score is within `tau` median absolute deviations of the class's median.

    Examples
    --------
    >>> no_outliers(torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.ones(1, 4).bool(), 1.5)
    tensor([[ True,  True,  True, False]])
    """
    scores = scores.masked_fill(~present, torch.nan)
    deviation = (scores - scores.nanquantile(0.5, dim=1, keepdim=True)).abs()
    return deviation <= tau * deviation.nanquantile(0.5, dim=1, keepdim=True)


class TaughtClassifier(ContextClassifier):
    """A `ContextClassifier` that also learns from the vectors of its classes' sentences."""

    sentences: Float[Tensor, "class symptom dim"]
    present: Bool[Tensor, "class symptom"]

    def __init__(
        self,
        prompts: ClassPrompts,
        context: Float[Tensor, "*own context token_dim"],
        *,
        logit_scale: float,
        sentences: Float[Tensor, "class symptom dim"],
        present: Bool[Tensor, "class symptom"],
        consistency: float,
        distillation: float,
        tau: float,
    ) -> None:
        super().__init__(prompts, context, logit_scale)
        self.register_buffer("sentences", nn.functional.normalize(sentences, dim=-1))
        self.register_buffer("present", present)
        self.consistency, self.distillation, self.tau = consistency, distillation, tau

    def backward(
        self, images: Float[Tensor, "image dim"], labels: Int[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Gradients of the three terms together."""
        vectors = self.class_vectors()
        logits = self.scale * cosine(images, vectors)
        teacher = (self.scale * cosine(images, self.mean_sentences(self.kept(images)))).log_softmax(-1)
        apart = nn.functional.kl_div(logits.log_softmax(-1), teacher, reduction="sum", log_target=True)
        normalised = nn.functional.normalize(vectors, dim=-1)
        loss = (
            nn.functional.cross_entropy(logits, labels)
            + self.consistency * nn.functional.mse_loss(normalised, self.mean_sentences(self.present))
            + self.distillation * apart / logits.numel()
        )
        loss.backward()
        return loss.detach()

    def kept(self, images: Float[Tensor, "image dim"]) -> Bool[Tensor, "class symptom"]:
        """Which sentences are no outliers for these images."""
        logits = self.scale * cosine(images, self.sentences.flatten(0, 1))
        return no_outliers(logits.mean(0).unflatten(0, self.present.shape), self.present, self.tau)

    def mean_sentences(self, which: Bool[Tensor, "class symptom"]) -> Float[Tensor, "class dim"]:
        """Each class's normalised mean over some of its sentences."""
        return nn.functional.normalize((self.sentences * which[..., None]).sum(1), dim=-1)


class BiomedCoOp(CoOp):
    """CoOp, taught by sentences about each class's symptoms.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name. Classes may have different numbers of symptoms.
    context, class_specific, position, init_words, recipe, seed
        As in `CoOp`.
    consistency, distillation
        Weights of the two further terms of the loss (the paper's lambdas); both 0 make it CoOp.
    tau
        Beyond how many median absolute deviations a sentence is an outlier; 1 or more, so that
        some always remain.
    """

    name: ClassVar[str] = "biomedcoop"
    uses_symptoms: ClassVar[bool] = True
    recipes: ClassVar[Mapping[str, Recipe]] = {
        "paper": Recipe(learning_rate=0.0025, epochs=100, batch_size=4, select_by="last"),
        "fast": FAST,
    }
    own_options: ClassVar[tuple[str, ...]] = (*CoOp.own_options, "consistency", "distillation", "tau")
    symptoms: SymptomSet

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        context: int = 4,
        class_specific: bool = False,
        position: str = "end",
        init_words: str = "a photo of a",
        consistency: float = 0.5,
        distillation: float = 0.25,
        tau: float = 1.5,
        recipe: str | Recipe | dict[str, Any] = "paper",
        seed: int = 1,
    ) -> None:
        for name, value, least in (
            ("consistency", consistency, 0),
            ("distillation", distillation, 0),
            ("tau", tau, 1),
        ):
            if not value >= least:
                raise UsageError(f"{name} is {value}", fix=f"use {least} or more")
        self.consistency, self.distillation, self.tau = consistency, distillation, tau
        super().__init__(
            backbone,
            symptoms,
            context=context,
            class_specific=class_specific,
            position=position,
            init_words=init_words,
            recipe=recipe,
            seed=seed,
        )

    def _model(self, classes: tuple[str, ...]) -> nn.Module:
        require_fitting(self.symptoms, self.backbone, context=0)
        sentences, present = self._encode_sentences(classes)
        return TaughtClassifier(
            *self._prompts(classes),
            logit_scale=self.backbone.logit_scale,
            sentences=sentences,
            present=present,
            consistency=self.consistency,
            distillation=self.distillation,
            tau=self.tau,
        )

    def _encode_sentences(
        self, classes: tuple[str, ...]
    ) -> tuple[Float[Tensor, "class symptom dim"], Bool[Tensor, "class symptom"]]:
        by_class = self.symptoms.for_classes(classes)
        texts = [
            closed(SENTENCE.format(name=name, symptom=symptom))
            for name, symptoms in zip(plain_names(classes, self.symptoms), by_class, strict=True)
            for symptom in symptoms
        ]
        require_room(texts, self.backbone.tokenize(texts).end, self.backbone, context=0)
        return padded_by_class(encode_texts(self.backbone, texts), [len(symptoms) for symptoms in by_class])
