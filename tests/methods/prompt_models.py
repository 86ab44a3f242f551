"""What the tests of prompt methods share: tokens and learned vectors encoded alone by transformers.

A prompt is a list of token ids and of vectors. Vectors become rows of a transformers model's own
token embedding, and the model's own forward pass does the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from small_models import embedded_with_any_map

from medvip.backbones import Tokens, load_backbone

Prompt = Sequence[int | torch.Tensor]


class Reference:
    """One kind of backbone, and the same towers through transformers alone."""

    def __init__(self, kind: str, folder: Path) -> None:
        import transformers

        self.kind = kind
        self.backbone = (
            embedded_with_any_map() if kind == "embedded" else load_backbone(str(folder), device="cpu")
        )
        if kind == "embedded":
            folder = self.backbone._text_folder
            self._model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
            self._embedding = self._model.embeddings.word_embeddings
        else:
            model_class = {"clip": transformers.CLIPModel, "siglip": transformers.SiglipModel}[kind]
            self._model = model_class.from_pretrained(folder).eval()
            self._embedding = self._model.text_model.embeddings.token_embedding
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self._own = self._embedding.weight

    def ids(self, text: str) -> tuple[list[int], list[int], list[int]]:
        """Token ids of a text: what every text starts with, its own, what every text ends with."""
        ids = list(self.tokenizer(text)["input_ids"])
        start = 0 if self.kind == "siglip" else 1
        return ids[:start], ids[start:-1], ids[-1:]

    def prompt(self, name: str, context: torch.Tensor, position: str = "end") -> Prompt:
        """Start, learned vectors and the name with its full stop in their order, end."""
        start, words, end = self.ids(f"{name}.")
        length = len(self.ids(name)[1])
        word, stop = words[:length], words[length:]
        vectors, half = list(context), len(context) // 2
        middle = {
            "end": [*vectors, *word],
            "middle": [*vectors[:half], *word, *vectors[half:]],
            "front": [*word, *vectors],
        }[position]
        return [*start, *middle, *stop, *end]

    def text(self, text: str) -> np.ndarray:
        """The vector of a text as it is."""
        return self.vector([token for part in self.ids(text) for token in part])

    @torch.no_grad()
    def vector(self, prompt: Prompt) -> np.ndarray:
        """The vector of one prompt, encoded alone: [dim]."""
        learned = [piece.detach() for piece in prompt if isinstance(piece, torch.Tensor)]
        rows = torch.cat([self._own, torch.stack(learned)]) if learned else self._own
        self._embedding.weight = torch.nn.Parameter(rows)
        new = iter(range(len(self._own), len(rows)))
        ids = [next(new) if isinstance(piece, torch.Tensor) else piece for piece in prompt]
        if self.kind == "embedded":
            sentence = (
                self._model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().mean(0).numpy()
            )
            alignment = self.backbone._alignment
            mapped = (sentence / np.linalg.norm(sentence) - alignment.text_mean.numpy()) @ (
                alignment.matrix.numpy().astype(float)
            )
            return np.concatenate([np.zeros(928), mapped / np.linalg.norm(mapped)])
        full, padding = {
            "clip": (77, self.tokenizer.eos_token_id),
            "siglip": (64, self.tokenizer.pad_token_id),
        }[self.kind]
        ids += [padding] * (full - len(ids))
        return self._model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0].double().numpy()


def references(tiny_clip: Path, tiny_siglip: Path) -> Callable[[str], Reference]:
    made: dict[str, Reference] = {}

    def get(kind: str) -> Reference:
        if kind not in made:
            made[kind] = Reference(kind, tiny_siglip if kind == "siglip" else tiny_clip)
        return made[kind]

    return get


def softmax_by_loop(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def cosine_by_loop(one: np.ndarray, other: np.ndarray) -> float:
    dot = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(float(a) ** 2 for a in one)) / math.sqrt(sum(float(b) ** 2 for b in other))


class StubBackbone:
    """Of CLIP ViT-B/16's shapes; encodes a text as the mean of its tokens. One token a word."""

    name, fingerprint, image_size = "stub", "stub", 224
    context_length, start_tokens, logit_scale = 77, 1, 4.6
    device = torch.device("cpu")

    def __init__(self, token_dim: int = 512, embed_dim: int = 512) -> None:
        self.token_dim, self.embed_dim = token_dim, embed_dim

    def preprocess(self, picture, *, framed=False):
        raise AssertionError

    def encode_images(self, pixels):
        raise AssertionError

    def tokenize(self, texts) -> Tokens:
        lengths = [len(text.replace(".", " .").split()) + 2 for text in texts]
        return Tokens(
            torch.ones(len(texts), max(lengths), dtype=torch.long),
            torch.tensor([length - 1 for length in lengths]),
        )

    def embed_tokens(self, ids):
        return torch.ones(*ids.shape, self.token_dim)

    def encode_tokens(self, embeddings, end):
        return embeddings.mean(1)[:, :1].expand(-1, self.embed_dim)


def learned(model: torch.nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def gradients_by_differences(
    loss: Callable[[], torch.Tensor], parameters: Sequence[torch.Tensor]
) -> list[float]:
    """For each parameter, how fast `loss` rises along its own gradient (which must be in ``.grad``)."""
    slopes = []
    for parameter in parameters:
        direction = parameter.grad / parameter.grad.norm()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-5 * direction
                values.append(loss().item())
                parameter -= sign * 1e-5 * direction
        slopes.append((values[0] - values[1]) / 2e-5)
    return slopes
