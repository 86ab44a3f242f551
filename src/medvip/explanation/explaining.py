"""From pictures to explanations: one pass through the encoder gives shares and maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones.protocol import Backbone, SpatialBackbone
from medvip.errors import UsageError
from medvip.explanation.contributions import Explanation, contributions
from medvip.explanation.logit_parts import parts_of
from medvip.explanation.maps import Box, GridMaps, Kind, SymptomMaps, joined, share_maps, similarity_maps
from medvip.explanation.percentiles import SimilarityQuantiles
from medvip.features import encode_paths
from medvip.features.picture_table import in_threads
from medvip.images import read_picture
from medvip.methods import Method
from medvip.progress import progress_bar

PICTURES = 8
"""Whose places are in memory at a time: on the embedded backbone a picture has 6 MB of them."""


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
    grids: bool = False,
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
    grids
        Whether maps come with those of each stage's own grid, some megabytes a picture.
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
        for part in _explained_with_maps(names, method, seen, grids, workers):
            explained += part
            advance(len(part))
    return explained


def _explained_with_maps(
    paths: Sequence[str],
    method: Method,
    seen: SimilarityQuantiles | None,
    keep_grids: bool,
    workers: int | None,
) -> Iterator[list[Explanation]]:
    """A batch at a time."""
    parts, backbone = parts_of(method), method.backbone
    spatial = require_spatial(backbone)
    sizes: dict[str, tuple[int, int]] = {}

    def pixels(path: str) -> Tensor:
        picture = read_picture(path)
        sizes[path] = picture.size
        return backbone.preprocess(picture)

    batches = [paths[start : start + PICTURES] for start in range(0, len(paths), PICTURES)]
    for batch, read in zip(batches, in_threads(pixels, batches, workers), strict=False):
        grids = spatial.encode_places(read)
        if spatial.mean_of_places_is_image:
            images = torch.cat([grid.mean((1, 2)) for grid in grids], -1)
            kind, maps = "share", share_maps(grids, parts)
        else:
            images = backbone.encode_images(read)
            kind, maps = "patch similarity", [similarity_maps(grids[0], parts)]
        explained = explain_vectors(images.float().cpu(), batch, method, seen)
        yield [
            replace(
                one,
                maps=_maps_of(
                    kind,
                    [(of_symptoms[row], of_class_vector[row]) for of_symptoms, of_class_vector in maps],
                    spatial.seen_box(*sizes[one.path]),
                    sizes[one.path],
                    keep_grids,
                ),
            )
            for row, one in enumerate(explained)
        ]


def _maps_of(
    kind: Kind,
    grids: Sequence[tuple[Tensor, Tensor]],
    box: Box,
    picture_size: tuple[int, int],
    keep_grids: bool,
) -> SymptomMaps:
    """Of one picture, from the maps of its grids."""
    kept = grids if keep_grids and len(grids) > 1 else ()
    return SymptomMaps(
        kind,
        joined([of_symptoms for of_symptoms, _ in grids]).numpy(),
        joined([of_class_vector for _, of_class_vector in grids]).numpy(),
        box,
        picture_size,
        tuple(GridMaps(*(part.numpy().copy() for part in grid)) for grid in kept),
    )


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
