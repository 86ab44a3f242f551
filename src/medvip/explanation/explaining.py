"""From pictures to explanations: one pass through the encoder gives shares and maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from medvip.backbones.protocol import Backbone, SpatialBackbone
from medvip.errors import UsageError
from medvip.explanation.contributions import Explanation, contributions
from medvip.explanation.logit_parts import parts_of
from medvip.explanation.maps import SymptomMaps, share_maps, similarity_maps
from medvip.explanation.percentiles import SimilarityQuantiles
from medvip.features import encode_paths
from medvip.features.extraction import BATCH
from medvip.features.picture_table import in_threads
from medvip.images import read_picture
from medvip.methods import Method
from medvip.progress import progress_bar


def explain_vectors(
    images: Float[Tensor, "image dim"],
    paths: Sequence[str],
    method: Method,
    seen: SimilarityQuantiles | None = None,
) -> list[Explanation]:
    """Explanations, without maps, of pictures whose vectors are there already.

    Parameters
    ----------
    images
        As the method's backbone gives them.
    paths
        Of the same pictures, for the explanations.
    method
        Fitted; its logits are sums over symptoms.
    seen
        Quantiles over training images, for the percentiles.

    Raises
    ------
    UsageError
        The method's logits are no sum over symptoms.
    """
    parts = parts_of(method)
    assert method.symptoms is not None  # or there would be no parts
    texts = method.symptoms.for_classes(method.classes)
    found = contributions(images, parts, method.classes, texts, seen)
    table = method.predict_proba(images) if len(images) else np.empty((0, len(method.classes)))
    return [
        Explanation(
            str(path),
            method.classes[int(row.argmax())],
            dict(zip(method.classes, map(float, row), strict=True)),
            classes,
        )
        for path, row, classes in zip(paths, table, found, strict=True)
    ]


def explain_pictures(
    paths: Sequence[str | Path],
    method: Method,
    seen: SimilarityQuantiles | None = None,
    *,
    maps: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> list[Explanation]:
    """Explanations of picture files.

    Parameters
    ----------
    paths
        The pictures.
    method, seen
        As in `explain_vectors`.
    maps
        Whether to say where, too. The pictures are then encoded anew: what is kept of a picture
        in the cache is its vector, not its places.
    cache, workers, quiet
        As in `medvip.features.encode_paths`.

    Raises
    ------
    UsageError
        The method's logits are no sum over symptoms, or its backbone cannot say where.
    UnreadableImages
        Pictures that cannot be read, all of them listed.
    """
    names = [str(path) for path in paths]
    if not maps:
        parts_of(method)  # refuse before the work
        images = encode_paths(names, method.backbone, cache=cache, workers=workers, quiet=quiet)
        return explain_vectors(images, names, method, seen)
    explained: list[Explanation] = []
    with progress_bar("explaining pictures", len(names), "pictures", quiet=quiet) as advance:
        for part in _explained_with_maps(names, method, seen, workers):
            explained += part
            advance(len(part))
    return explained


def _explained_with_maps(
    paths: Sequence[str], method: Method, seen: SimilarityQuantiles | None, workers: int | None
) -> Iterator[list[Explanation]]:
    """A batch at a time."""
    parts, backbone = parts_of(method), method.backbone
    spatial = require_spatial(backbone)
    sizes: dict[str, tuple[int, int]] = {}

    def pixels(path: str) -> Tensor:
        picture = read_picture(path)
        sizes[path] = picture.size
        return backbone.preprocess(picture)

    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    for batch, read in zip(batches, in_threads(pixels, batches, workers), strict=False):
        places = spatial.encode_places(read)
        if spatial.mean_of_places_is_image:
            kind, images, maps = "share", places.mean((1, 2)), share_maps(places, parts)
        else:
            kind, images, maps = (
                "patch similarity",
                backbone.encode_images(read),
                similarity_maps(places, parts),
            )
        explained = explain_vectors(images.float().cpu(), batch, method, seen)
        yield [
            replace(
                one,
                maps=SymptomMaps(
                    kind, of_symptoms, of_class_vector, spatial.seen_box(*sizes[one.path]), sizes[one.path]
                ),
            )
            for one, of_symptoms, of_class_vector in zip(explained, *maps, strict=True)
        ]


def require_spatial(backbone: Backbone) -> SpatialBackbone:
    """The backbone as one that can say where.

    Raises
    ------
    UsageError
        It cannot.
    """
    if not isinstance(backbone, SpatialBackbone):
        raise UsageError(
            f"the backbone {backbone.name} gives no vector for single places of a picture",
            fix="explain without maps (--no-maps)",
        )
    return backbone
