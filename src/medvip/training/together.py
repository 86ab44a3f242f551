"""Runs side by side: what their text encoder has to encode, it encodes as one batch, there and back.

A run is a generator that goes on by itself until its model is about to encode learned vectors, or
until its gradient has come as far back as what was encoded. What lies between is its own. The text
encoder, which all runs share, works when all runs have come to such a place.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medvip.training.encoded_once import Prompted, go_back

Wish = Literal["encode", "gradient"]
ENCODE: Wish = "encode"
"""What the model will encode in its next call, if anything, may be encoded now, in the mode it is in."""
GRADIENT: Wish = "gradient"
"""Gradients have come back as far as to what was encoded, and are wanted behind it."""

Steps = Generator[Wish, None, None]


class Together:
    """Runs that go on side by side until all have ended.

    Parameters
    ----------
    runs
        Each run's model and steps. Models that are `Prompted` are alike: any of them can encode for
        all. Others encode for themselves.
    """

    def __init__(self, runs: Sequence[tuple[nn.Module, Steps]]) -> None:
        self._runs = [_Run(model, steps) for model, steps in runs]
        self._made: list[tuple[Tensor, list[Tensor]]] = []  # and for each run where its graph ends

    def to_the_end(self) -> None:
        """All runs. When one raises, the others are closed where they are."""
        try:
            for run in self._runs:
                run.go_on()
            while any(run.wish for run in self._runs):
                # Encoding first: nobody goes back before all who share the way have come to its end.
                turn = [run for run in self._runs if run.wish == ENCODE]
                if turn:
                    self._encode(turn)
                else:
                    turn = [run for run in self._runs if run.wish == GRADIENT]
                    self._go_back()
                for run in turn:
                    run.go_on()
        finally:
            for run in self._runs:
                run.steps.close()

    def _encode(self, runs: list[_Run]) -> None:
        models = [run.prompted for run in runs]
        with torch.enable_grad():
            made = models[0].encode_runs(torch.stack([model.learned_vectors() for model in models]))
        ends = [of_run.detach().requires_grad_(made.requires_grad) for of_run in made]
        for run, end in zip(runs, ends, strict=True):
            run.prompted.take(end)
            run.end = end
        self._made.append((made, ends))

    def _go_back(self) -> None:
        for made, ends in self._made:
            if any(end.grad is not None for end in ends):
                gradients = [torch.zeros_like(end) if end.grad is None else end.grad for end in ends]
                go_back(made, torch.stack(gradients))
        self._made.clear()
        for run in self._runs:
            run.end = None


class _Run:
    """One run, and what it waits for."""

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self.model, self.steps = model, steps
        self.wish: Wish | None = None
        self.end: Tensor | None = None

    @property
    def prompted(self) -> Prompted:
        assert isinstance(self.model, Prompted)
        return self.model

    def go_on(self) -> None:
        """As far as it goes by itself."""
        self.wish = next((wish for wish in self.steps if self._waits_for(wish)), None)

    def _waits_for(self, wish: Wish) -> bool:
        if wish == GRADIENT:
            return self.end is not None and self.end.grad is not None
        with torch.set_grad_enabled(self.model.training):
            return isinstance(self.model, Prompted) and self.model.to_encode() is not None
