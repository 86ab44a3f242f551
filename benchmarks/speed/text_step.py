"""The text side of one training step of ViP in CLIP ViT-B/16's text tower, against the machine's limit.

    python benchmarks/speed/text_step.py [--rounds 15] [--runs 1] [--out FILE.json]

Two classes with four symptoms each, of 8 to 12 tokens (start and end included), four learned context
vectors, random weights, single precision: forwards, and back to the context. Prints JSON:

- seconds of the step, and of the same step by transformers' own layers on the same prompts, padded to
  the longest and to 77 tokens;
- what the step multiplies in its linear layers, counted from the products it really makes, and its
  share of two limits, measured in the same rounds. `peak`: the very same products, of the same row
  counts, each again and again with one weight, which stays in the cache. `in_order`: the very same
  products with the tower's own weights, one layer's after the other's, each read from memory again.
  `peak` takes the faster of oneDNN and MKL, `in_order` what the layers take.

Times are medians over rounds; everything is measured once in each round, the 77 tokens in the first three,
and right after a call of its own that is not timed: in training a step follows a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import description, seconds_of
from torch import Tensor, nn

from medvip.atomic import write_atomically
from medvip.backbones.clip_text import ClipText
from medvip.backbones.frozen_linear import FrozenLinear

LENGTHS = (8, 9, 10, 11, 12, 8, 10, 12)
"""Tokens of each symptom, start and end included."""

CONTEXT = 4


class Product:
    """One product of a step: rows times a linear layer's weight, there or back."""

    def __init__(self, layer: FrozenLinear, rows: int, back: bool) -> None:
        self.layer, self.back = layer, back
        self.shape = rows, *((layer.outputs, layer.inputs) if back else (layer.inputs, layer.outputs))
        self.operations = 2 * self.shape[0] * self.shape[1] * self.shape[2]
        self.input = torch.randn(self.shape[:2])

    def multiply(self) -> Tensor:
        """As the step does it."""
        return self.layer.back(self.input) if self.back else self.layer.there(self.input, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=1, help="runs trained together")
    parser.add_argument("--out", type=Path, help="JSON file, besides the terminal")
    given = parser.parse_args()
    command = " ".join(["python benchmarks/speed/text_step.py", *sys.argv[1:]])
    found = {"command": command, "machine": description(), **measure(given.rounds, given.runs)}
    text = json.dumps(found, indent=1) + "\n"
    if given.out:
        write_atomically(given.out, text)
    print(text, end="")


def measure(rounds: int, runs: int) -> dict[str, object]:
    torch.manual_seed(0)
    model, projection = vit_b16_text()
    tokens, end = texts(model)
    tower = ClipText(model, projection)
    context = (0.02 * torch.randn(runs, CONTEXT, tokens.shape[2])).requires_grad_()
    vectors = tower.encode_with_context(context, tokens, end)
    gradient = torch.randn_like(vectors)

    def step() -> Tensor:
        context.grad = None
        tower.encode_with_context(context, tokens, end).backward(gradient)
        assert context.grad is not None
        return context.grad

    def reference(length: int) -> Callable[[], Tensor]:
        return lambda: by_transformers(model, projection, context, tokens, end, gradient, length)

    longest = tokens.shape[1] + CONTEXT
    agreement = (step() - reference(longest)()).norm() / step().norm()
    products = products_of(step)
    kinds = {(product.shape, product.back): product for product in products}
    hot = {kind: [] for kind in kinds}
    seconds: dict[str, list[float]] = {name: [] for name in ("step", "in_order", "longest", "77")}
    for _ in range(rounds):
        seconds["step"].append(once(step))
        seconds["in_order"].append(in_order(products))
        for kind, product in kinds.items():
            hot[kind].append(hottest(product))
        seconds["longest"].append(once(reference(longest)))
        if len(seconds["77"]) < 3:
            seconds["77"].append(once(reference(77)))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    total = sum(product.operations for product in products)
    at_peak = sum(statistics.median(hot[product.shape, product.back]) for product in products)
    return {
        "runs": runs,
        "rows": {"context": CONTEXT, "words_and_ends": sum(LENGTHS) - len(LENGTHS)},
        "difference_from_transformers": agreement.item(),
        "step_seconds": median["step"],
        "transformers_padded_to_longest_seconds": median["longest"],
        "transformers_padded_to_77_seconds": median["77"],
        "gigaflop_in_linear_layers": total / 1e9,
        "step_gflops": total / median["step"] / 1e9,
        "peak_gflops": total / at_peak / 1e9,
        "in_order_gflops": total / median["in_order"] / 1e9,
        "share_of_peak": at_peak / median["step"],
        "share_of_in_order": median["in_order"] / median["step"],
        "products": [
            {
                "rows": shape[0], "inner": shape[1], "columns": shape[2],
                "times": sum((product.shape, product.back) == (shape, back) for product in products),
                "back": back, "gflops": product.operations / statistics.median(hot[shape, back]) / 1e9,
            }
            for (shape, back), product in kinds.items()
        ],
    }  # fmt: skip


def vit_b16_text() -> tuple[Any, nn.Linear]:
    """The text tower of CLIP ViT-B/16 and its projection, with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=512, intermediate_size=2048, num_hidden_layers=12,
        num_attention_heads=8, max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=512,
    )  # fmt: skip
    model = CLIPTextModel(config).eval().requires_grad_(False)
    return model, nn.Linear(512, 512, bias=False).requires_grad_(False)


def texts(model: Any) -> tuple[Tensor, Tensor]:
    """Embedded random tokens of the symptoms, all with the same start, and their end positions."""
    ids = torch.randint(0, 49000, (len(LENGTHS), max(LENGTHS)))
    ids[:, 0] = 49406
    return model.embeddings.token_embedding(ids), torch.tensor(LENGTHS) - 1


def by_transformers(
    model: Any,
    projection: nn.Linear,
    context: Tensor,
    tokens: Tensor,
    end: Tensor,
    gradient: Tensor,
    length: int,
) -> Tensor:
    """The context's gradient by transformers' own layers: whole prompts, padded to `length` tokens."""
    context = context.detach().requires_grad_()
    for run, of_run in zip(context, gradient, strict=True):
        start, rest = tokens.tensor_split([1], dim=1)
        prompts = torch.cat([start, run.expand(len(tokens), -1, -1), rest], dim=1)
        prompts = nn.functional.pad(prompts, (0, 0, 0, length - prompts.shape[1]))
        mask = torch.full((length, length), torch.finfo(prompts.dtype).min).triu(1)[None, None]
        states = model.embeddings(inputs_embeds=prompts)
        states = model.encoder(inputs_embeds=states, attention_mask=mask, is_causal=True).last_hidden_state
        ends = states[torch.arange(len(end)), end + CONTEXT]
        projection(model.final_layer_norm(ends)).backward(of_run)
    assert context.grad is not None
    return context.grad


def products_of(step: Callable[[], object]) -> list[Product]:
    """Every product that a step makes in its linear layers, in order."""
    made: list[Product] = []
    there, back = FrozenLinear.there, FrozenLinear.back

    def counted_there(layer: FrozenLinear, rows: Tensor, add: Tensor | None) -> Tensor:
        made.append(Product(layer, len(rows), back=False))
        return there(layer, rows, add)

    def counted_back(layer: FrozenLinear, gradient: Tensor) -> Tensor:
        made.append(Product(layer, len(gradient), back=True))
        return back(layer, gradient)

    with mock.patch.multiple(FrozenLinear, there=counted_there, back=counted_back):
        step()
    return made


def once(work: Callable[[], object]) -> float:
    """Seconds of one call that follows another."""
    return seconds_of(work, 1, warm_up=1)[0]


def in_order(products: Sequence[Product]) -> float:
    """Seconds of all products, one after the other."""
    return once(lambda: [product.multiply() for product in products])


def hottest(product: Product, times: int = 8) -> float:
    """Seconds of one product, the same again and again, by the faster of the two libraries."""
    _, inner, columns = product.shape
    weight = torch.randn(inner, columns)
    ways = (product.multiply, lambda: torch.mm(product.input, weight))
    return min(once(lambda way=way: [way() for _ in range(times)]) / times for way in ways)


if __name__ == "__main__":
    main()
