"""ViP the long way round: what the paper's released code does at a training step and in a test pass.

Not used by medvip. It is what medvip's speed is compared with, and a second reading of the same
equations that the tests hold medvip's gradients against. As in the released code:

- every picture goes through the frozen image encoder every time it is shown;
- every symptom is padded to 77 tokens, and the text encoder works on all 77;
- symptoms are encoded one class after the other, at every step and for every batch of a test pass;
- the end token is looked for as the largest token number.

Two things are not as there: numbers have 32 bits (the released code has 16, on a GPU), and the
merge prompt is sized by the joint space, not by the text encoder's width (the two are equal for
ViT-B/16). What follows is plain torch on transformers' CLIP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PADDED = 77
TEST_BATCH = 100
"""Pictures in a batch of a validation or test pass: few text encodings, in favour of this side."""


class NaiveViP(nn.Module):
    """Pixels to logits.

    Parameters
    ----------
    clip
        A transformers ``CLIPModel``; it is frozen here.
    ids
        Token numbers of each class's symptoms, start and end included, not padded.
    context
        Number of learned context vectors.
    """

    def __init__(self, clip: Any, ids: Sequence[Sequence[Sequence[int]]], context: int = 4) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        dim, token_dim = clip.config.projection_dim, clip.config.text_config.hidden_size
        self.context = nn.Parameter(torch.empty(context, token_dim).normal_(std=0.02))
        self.class_vectors = nn.Parameter(torch.empty(len(ids), dim).normal_(std=0.02))
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        nn.init.xavier_normal_(self.query.weight)
        nn.init.xavier_normal_(self.key.weight)
        blocked = torch.full((PADDED, PADDED), -math.inf).triu(1)[None, None]
        self.register_buffer("mask", blocked, persistent=False)
        embedding = clip.text_model.embeddings.token_embedding
        self.classes: list[tuple[Tensor, Tensor]] = []
        for texts in ids:
            padded = torch.stack([self._padded(text) for text in texts])
            # The first `context` places behind the start stand for the learned vectors.
            self.classes.append((embedding(padded).detach(), padded.argmax(-1)))

    def _padded(self, text: Sequence[int]) -> Int[Tensor, " 77"]:
        room = [0] * len(self.context)
        filled = torch.tensor([text[0], *room, *text[1:]])
        return nn.functional.pad(filled, (0, PADDED - len(filled)))

    def parameters_to_learn(self) -> list[nn.Parameter]:
        """Context vectors, class vectors, both projections."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def encode_symptoms(
        self, embedded: Float[Tensor, "symptom 77 token_dim"], end: Int[Tensor, " symptom"]
    ) -> Float[Tensor, "symptom dim"]:
        """One class's symptoms through the text encoder, all 77 places of each."""
        count = len(self.context)
        context = self.context.expand(len(embedded), -1, -1)
        prompts = torch.cat([embedded[:, :1], context, embedded[:, 1 + count :]], dim=1)
        text = self.clip.text_model
        states = text.embeddings(inputs_embeds=prompts)
        states = text.encoder(inputs_embeds=states, attention_mask=self.mask).last_hidden_state
        states = text.final_layer_norm(states)
        return self.clip.text_projection(states[torch.arange(len(end)), end])

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch class"]:
        """Everything from the pixels and the tokens on."""
        images = self.clip.get_image_features(pixel_values=pixels).pooler_output
        images = images / images.norm(dim=-1, keepdim=True)
        logits = []
        for (embedded, end), g in zip(self.classes, self.class_vectors, strict=True):
            symptoms = self.encode_symptoms(embedded, end)
            scores = self.query(g) @ self.key(symptoms).T / math.sqrt(len(g))
            vector = g + scores.softmax(-1) @ symptoms
            logits.append(self.clip.logit_scale.exp() * images @ (vector / vector.norm()))
        return torch.stack(logits, dim=1)


def optimizer_of(model: NaiveViP, learning_rate: float = 0.002) -> torch.optim.SGD:
    """The paper's: SGD, momentum 0.9, weight decay 5e-4."""
    return torch.optim.SGD(model.parameters_to_learn(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)


def train_step(
    model: NaiveViP,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 size size"],
    labels: Int[Tensor, " batch"],
) -> tuple[float, float]:
    """One step; returns loss and accuracy, which the released code reads off at every step."""
    logits = model(pixels)
    loss = nn.functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item(), (logits.argmax(-1) == labels).double().mean().item()


@torch.no_grad()
def evaluation_pass(
    model: NaiveViP, batches: Iterable[Float[Tensor, "batch 3 size size"]]
) -> Float[Tensor, "image class"]:
    """Logits of all pictures; the text is encoded anew for each batch."""
    return torch.cat([model(pixels) for pixels in batches])
