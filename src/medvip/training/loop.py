"""The one loop: epochs over vectors or pixels, the best epoch by validation, the same bits each time."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medvip import confusion
from medvip.errors import TrainingError
from medvip.features import Table
from medvip.progress import progress_bar
from medvip.training.few_rows import FewRowsSGD
from medvip.training.recipe import Recipe
from medvip.training.together import ENCODE, GRADIENT, Steps, Together, Wish


@dataclass
class Training:
    """One run: what is trained on what, and how.

    Attributes
    ----------
    model
        Image vectors [batch, dim], or pixels, to logits [batch, class]; its parameters are trained,
        by cross-entropy of the logits. A model with a method ``backward(images, labels)`` is
        trained by that instead: it leaves gradients in its parameters and returns the loss,
        detached. A model with a method ``parameter_groups()`` says which parameters learn, and
        each group's ``rate_factor``: how many times the recipe's learning rate it learns at.
    train, validation
        What to learn from, and what to choose the epoch by.
    recipe
        Optimiser, schedule, model selection.
    seed
        Of the order of images and views.
    history
        Receives an entry for each epoch: ``epoch``, ``learning_rate``, ``loss``,
        ``val_accuracy``, ``val_macro_f1``, ``val_loss``, ``seconds`` (those of other runs that are
        trained at the same time included), and ``best`` in the epochs that were the best so far.
    error
        Why it stopped early, where it did. The model is left at the best epoch before.

    Raises
    ------
    TrainingError
        No image to learn or to choose by.
    """

    model: nn.Module
    train: Table
    validation: Table
    recipe: Recipe
    seed: int
    history: list[dict[str, Any]] = field(default_factory=list)
    error: TrainingError | None = None

    def __post_init__(self) -> None:
        if len(self.validation) < self.recipe.min_validation:
            self.recipe = replace(self.recipe, select_by="last")
        if len(self.train) == 0 or (len(self.validation) == 0 and self.recipe.select_by != "last"):
            raise TrainingError(
                f"there are {len(self.train)} training and {len(self.validation)} validation images",
                fix="give both, or choose the last epoch (select_by = last)",
            )
        self.recipe = self.recipe.for_images(len(self.train))
        self.train = self.train.on(next(self.model.parameters()).device)


def train_model(
    model: nn.Module,
    train: Table,
    validation: Table,
    recipe: Recipe,
    seed: int,
    history: list[dict[str, Any]],
    *,
    quiet: bool = False,
) -> None:
    """Train `model` in place and leave it at its best epoch by `recipe.select_by`.

    Each step draws one view of each image of its batch. Nothing but `seed` decides the order of
    images and views, so on one machine the same seed gives the same bits. Parameters are those of
    `Training`; `quiet` is without live progress.

    Raises
    ------
    TrainingError
        No image to learn or to choose by, or a loss that is not finite. In the second case the
        model is left at the best epoch so far.
    """
    training = Training(model, train, validation, recipe, seed, history)
    train_together([training], quiet=quiet)
    if training.error:
        raise training.error


def train_together(trainings: Sequence[Training], *, quiet: bool = False) -> None:
    """Train runs side by side, each as `train_model` would: own data, order, optimiser, best epoch.

    Where models are `Prompted`, they are runs of one and the same, and what they have encoded at
    the same time is encoded as one batch, there and back.
    """
    epochs = sum(one.recipe.epochs for one in trainings)
    with progress_bar("training", epochs, "epochs", quiet=quiet) as advance:
        Together([(one.model, _steps(one, advance)) for one in trainings]).to_the_end()


def _steps(training: Training, advance: Callable[..., None]) -> Steps:
    """All of one run, as `Together` takes it."""
    model, recipe = training.model, training.recipe
    generator = torch.Generator().manual_seed(training.seed)
    optimizer = _optimizer(model, recipe)
    best_score, best_state, is_at_best = (-math.inf,), copy.deepcopy(model.state_dict()), True
    try:
        for epoch in range(recipe.epochs):
            started, is_at_best = time.perf_counter(), False
            rate = recipe.learning_rate_at(epoch)
            loss = yield from _one_epoch(model, training.train, optimizer, rate, recipe.batch_size, generator)
            entry: dict[str, Any] = {"epoch": epoch + 1, "learning_rate": rate, "loss": loss}
            if len(training.validation):
                model.eval()
                yield ENCODE
                entry |= validation_scores(model, training.validation)
            _require_finite(entry, model)
            score = _score(entry, recipe)
            if score > best_score:
                best_score, is_at_best = score, True
                for name, tensor in model.state_dict().items():
                    best_state[name].copy_(tensor)
                entry["best"] = True
            training.history.append(entry | {"seconds": time.perf_counter() - started})
            advance(1, _said(entry))
    except TrainingError as error:
        training.error = error
    finally:
        if isinstance(optimizer, FewRowsSGD):
            optimizer.release()
        if not is_at_best:  # to restore what is there would count as a change, and be encoded again
            model.load_state_dict(best_state)


def _one_epoch(
    model: nn.Module,
    train: Table,
    optimizer: torch.optim.Optimizer | FewRowsSGD,
    learning_rate: float,
    batch_size: int,
    generator: torch.Generator,
) -> Generator[Wish, None, float]:
    """Mean loss over one pass; each image is shown once, in one of its views."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate_factor", 1.0)
    model.train()
    backward = getattr(model, "backward", None) or partial(_backward_of_cross_entropy, model)
    order = torch.randperm(len(train), generator=generator)
    view = torch.randint(train.views, (len(train),), generator=generator)
    total = torch.zeros((), device=train.labels.device)
    for images, labels in train.batches(order, view, batch_size):
        optimizer.zero_grad()
        yield ENCODE
        loss = backward(images, labels)
        yield GRADIENT
        optimizer.step()
        total += loss * len(labels)
    if isinstance(optimizer, FewRowsSGD):
        optimizer.settle()
    return float(total) / len(train)


def _backward_of_cross_entropy(
    model: nn.Module, images: Float[Tensor, "batch *input"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    return loss.detach()


@torch.no_grad()
def _require_finite(entry: dict[str, Any], model: nn.Module) -> None:
    """Stop on a loss that is not finite, or on weights that an epoch's last steps have ruined."""
    losses = [entry["loss"], entry.get("val_loss", 0.0)]
    # A sum is finite only where all is, and is ten times faster than asking each weight.
    if all(map(math.isfinite, losses)) and all(p.sum().isfinite() for p in model.parameters()):
        return
    raise TrainingError(
        f"the loss or the weights are not finite in epoch {entry['epoch']} (loss {entry['loss']}, "
        f"learning rate {entry['learning_rate']:g}); the best epoch before is kept",
        fix="lower the learning rate (--learning-rate), and check the vectors for extreme values",
    )


@torch.no_grad()
def validation_scores(model: nn.Module, validation: Table) -> dict[str, float]:
    """Accuracy, macro-F1 and cross-entropy on the plain pictures; empty without pictures."""
    if len(validation) == 0:
        return {}
    model.eval()
    logits = torch.cat([model(part) for part in validation.parts()]).cpu()
    predicted = logits.argmax(-1)
    counts = confusion.confusion_matrix(validation.labels.numpy(), predicted.numpy(), len(validation.classes))
    return {
        "val_accuracy": (predicted == validation.labels).double().mean().item(),
        "val_macro_f1": float(confusion.macro_f1(counts[None])[0]),
        "val_loss": nn.functional.cross_entropy(logits, validation.labels).item(),
    }


def _said(entry: dict[str, Any]) -> str:
    """What the live progress shows of an epoch."""
    shown = f"epoch {entry['epoch']}, loss {entry['loss']:.3f}"
    accuracy = entry.get("val_accuracy")
    return shown if accuracy is None else f"{shown}, validation accuracy {accuracy:.3f}"


def _score(entry: dict[str, Any], recipe: Recipe) -> tuple[float, ...]:
    """What the epoch is chosen by, the greater the better."""
    match recipe.select_by:
        case "last":
            return (float(entry["epoch"]),)
        case "loss":
            return (-entry["val_loss"],)
        case "macro_f1":
            return entry["val_macro_f1"], entry["val_accuracy"], -entry["val_loss"]
        case "accuracy":
            return (entry["val_accuracy"],)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer | FewRowsSGD:
    of_model = getattr(model, "parameter_groups", None)
    parameters = of_model() if of_model else [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return FewRowsSGD(
        model,
        parameters,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
