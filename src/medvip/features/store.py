"""Vectors on disk: a folder of small files, each written whole, none ever changed.

``CACHE/features/<backbone fingerprint>-<reader version>/<view>/<random>.safetensors`` holds the vectors
of some pictures; its header names them by content. Two processes write different files, so neither
harms the other; a killed one leaves what it had finished.
"""

from __future__ import annotations

import contextlib
import json
import uuid
import warnings
import zlib
from collections.abc import Collection
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medvip.atomic import write_atomically
from medvip.cache import cache_folder
from medvip.errors import FeatureError
from medvip.images import READER_VERSION


class FeatureStore:
    """The kept vectors of one backbone.

    Parameters
    ----------
    fingerprint
        Of the backbone; vectors of another are never returned.
    folder
        Where to keep them, instead of the user's cache folder.
    """

    def __init__(self, fingerprint: str, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "features" / f"{fingerprint[:32]}-{READER_VERSION}"

    def load(self, view: str, contents: Collection[str]) -> dict[str, Float[Tensor, " dim"]]:
        """The kept vectors of those pictures, by content hash. Pictures not kept are left out.

        A damaged file is named in a warning and removed, so that its vectors are computed again.
        """
        wanted, found = set(contents), {}
        for file in sorted((self.folder / view).glob("*.safetensors")):
            try:
                found |= _read(file, wanted - found.keys())
            except FileNotFoundError:
                continue  # another process noticed the same damage and removed it
            except OSError as error:
                warnings.warn(
                    f"cached features {file} cannot be read ({error}); computed again", stacklevel=2
                )
            except (SafetensorError, ValueError, KeyError, TypeError) as error:
                warnings.warn(
                    f"cached features {file} are damaged ({error}); computing them again", stacklevel=2
                )
                with contextlib.suppress(OSError):  # a cache that others own and this user only reads
                    file.unlink()
        return found

    def add(self, view: str, vectors: dict[str, Float[Tensor, " dim"]]) -> None:
        """Keep vectors. Does nothing when there are none.

        Raises
        ------
        FeatureError
            The folder cannot be written to.
        """
        if not vectors:
            return
        stacked = torch.stack([vector.cpu() for vector in vectors.values()]).contiguous()
        header = {"contents": json.dumps(list(vectors)), "crc32": str(_checksum(stacked))}
        file = self.folder / view / f"{uuid.uuid4().hex}.safetensors"
        try:
            write_atomically(file, save({"vectors": stacked}, header))
        except OSError as error:
            raise FeatureError(
                f"computed features cannot be kept in {file.parent}: {error.strerror or error}",
                fix="free some space there, or set MEDVIP_CACHE to a folder that can be written to",
            ) from error


def _read(file: Path, wanted: set[str]) -> dict[str, Float[Tensor, " dim"]]:
    """Vectors of `wanted` in one file; its numbers are read only when it holds some."""
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
        contents = json.loads(header["contents"])
        if wanted.isdisjoint(contents):
            return {}
        vectors = opened.get_tensor("vectors")
    if len(vectors) != len(contents) or _checksum(vectors) != int(header["crc32"]):
        raise ValueError("checksum does not match")
    return {content: vector for content, vector in zip(contents, vectors, strict=True) if content in wanted}


def _checksum(vectors: Float[Tensor, "image dim"]) -> int:
    return zlib.crc32(vectors.numpy().tobytes())
