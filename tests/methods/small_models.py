"""What the tests of methods share: three kinds of backbone, features made up or real, texts encoded alone.

`texts_by_transformers` is the outside reference: learned context vectors become rows of a
transformers model's own token embedding, and the model's own forward pass does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from medvip.backbones import Backbone, load_backbone
from medvip.features import FeatureTable


def embedded_with_any_map() -> Backbone:
    """The embedded backbone with its real towers, and a random map in place of the computed one.

    Computing the map takes a while, and no test here depends on what it says.
    """
    from medvip.backbones.alignment import Alignment

    backbone = load_backbone("embedded", device="cpu")
    random = torch.Generator().manual_seed(0)
    tensors = {"text_mean": 0.01 * torch.randn(384, generator=random)}
    tensors["matrix"] = torch.randn(384, 320, generator=random)
    backbone.__dict__["_alignment"] = Alignment(tensors)
    return backbone


def made_up(classes: Sequence[str], images: int, dim: int, views: int = 1, seed: int = 0) -> FeatureTable:
    """Vectors around one centre a class."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % len(classes)
    centres = torch.randn(len(classes), dim, generator=torch.Generator().manual_seed(42))
    vectors = centres[labels][:, None] + 0.3 * torch.randn(images, views, dim, generator=random)
    names = tuple(f"{row}.png" for row in range(images))
    return FeatureTable(vectors, labels, tuple(classes), names, names, names, "none")


def count_texts(monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> list[int]:
    """A list that grows by the number of texts whenever some are encoded, whichever way."""
    calls: list[int] = []
    for way in ("encode_tokens", "encode_with_context"):
        if encode := getattr(backbone, way, None):
            counting = lambda *given, _encode=encode: calls.append(len(given[-1])) or _encode(*given)  # noqa: E731
            monkeypatch.setattr(backbone, way, counting)
    return calls


def forbid_texts(monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    """Encoding a text fails the test, whichever way."""
    for way in ("encode_tokens", "encode_with_context"):
        if hasattr(backbone, way):
            monkeypatch.setattr(backbone, way, lambda *_: pytest.fail("a text was encoded"))


@torch.no_grad()
def texts_by_transformers(
    kind: str, folder: Path, backbone: Backbone, texts: Sequence[str], context: torch.Tensor
) -> np.ndarray:
    """Each text alone through transformers' own model: [text, dim]."""
    import transformers

    if kind == "embedded":
        return _texts_by_bert(backbone, texts, context)
    model_class = {"clip": transformers.CLIPModel, "siglip": transformers.SiglipModel}[kind]
    model = model_class.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    embedding = model.text_model.embeddings.token_embedding
    first_new = embedding.num_embeddings
    embedding.weight = torch.nn.Parameter(torch.cat([embedding.weight, context]))
    learned = list(range(first_new, first_new + len(context)))
    vectors = []
    for text in texts:
        if kind == "clip":
            start, *rest = tokenizer(text)["input_ids"]
            ids = [start, *learned, *rest]
            ids += [tokenizer.eos_token_id] * (
                77 - len(ids)
            )  # padded to the full length, as CLIP was trained
        else:
            ids = [*learned, *tokenizer(text)["input_ids"]]
            ids += [tokenizer.pad_token_id] * (64 - len(ids))
        vectors.append(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0].numpy())
    return np.stack(vectors)


def _texts_by_bert(backbone, texts: Sequence[str], context: torch.Tensor) -> np.ndarray:
    from transformers import AutoTokenizer, BertModel

    folder = backbone._text_folder
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    embedding = model.embeddings.word_embeddings
    first_new = embedding.num_embeddings
    embedding.weight = torch.nn.Parameter(torch.cat([embedding.weight, context]))
    mean = backbone._alignment.text_mean.numpy().astype(float)
    matrix = backbone._alignment.matrix.numpy().astype(float)
    vectors = []
    for text in texts:
        start, *rest = tokenizer(text)["input_ids"]
        ids = [start, *range(first_new, first_new + len(context)), *rest]
        sentence = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy().mean(0).astype(float)
        mapped = (sentence / np.linalg.norm(sentence) - mean) @ matrix
        vectors.append(np.concatenate([np.zeros(928), mapped / np.linalg.norm(mapped)]))
    return np.stack(vectors)


def class_vectors_by_loop(
    texts: Sequence[np.ndarray], query: np.ndarray, w_q: np.ndarray, w_k: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The paper's merge prompt, number by number: class vectors [class, dim], and each class's attention."""
    vectors, attentions = [], []
    for g, symptoms in zip(query.astype(float), texts, strict=True):
        dim = len(g)
        q = [sum(w_q[j, i] * g[i] for i in range(dim)) for j in range(dim)]
        scores = []
        for t in symptoms.astype(float):
            k = w_k.astype(float) @ t
            scores.append(sum(q[j] * k[j] for j in range(dim)) / math.sqrt(dim))
        total = sum(math.exp(score - max(scores)) for score in scores)
        weights = [math.exp(score - max(scores)) / total for score in scores]
        s = g.copy()
        for weight, t in zip(weights, symptoms.astype(float), strict=True):
            s = s + weight * t
        vectors.append(s)
        attentions.append(np.array(weights))
    return np.stack(vectors), attentions


def class_vectors_in_one_go(
    texts: Sequence[np.ndarray], query: np.ndarray, w_q: np.ndarray, w_k: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same for wide vectors: a class at a time, in double precision."""
    vectors, attentions = [], []
    for g, t in zip(query.astype(float), texts, strict=True):
        weights = np.exp((t.astype(float) @ w_k.astype(float).T) @ (w_q.astype(float) @ g) / np.sqrt(len(g)))
        attentions.append(weights / weights.sum())
        vectors.append(g + attentions[-1] @ t)
    return np.stack(vectors), attentions


def probabilities_by_loop(images: np.ndarray, class_vectors: np.ndarray, logit_scale: float) -> np.ndarray:
    rows = []
    for f in images.astype(float):
        logits = [
            math.exp(logit_scale) * (f @ s) / math.sqrt(f @ f) / math.sqrt(s @ s)
            for s in class_vectors.astype(float)
        ]
        total = sum(math.exp(logit - max(logits)) for logit in logits)
        rows.append([math.exp(logit - max(logits)) / total for logit in logits])
    return np.array(rows)
