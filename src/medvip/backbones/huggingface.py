"""CLIP and SigLIP in Hugging Face's form, from a folder or the hub."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from medvip.backbones.clip_text import ClipText
from medvip.backbones.framing import crop_box, is_strip, middle_of_strip
from medvip.backbones.protocol import Tokens, inserted
from medvip.errors import BackboneError

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model")
"""What is fetched from the hub and what decides the vectors. Never a pickle (``*.bin``, ``*.pt``)."""

CHUNK = 2
"""Pictures encoded at once on a CPU: larger batches fall out of the cache and are slower."""


class HuggingFaceBackbone:
    """A pretrained CLIP or SigLIP; see `medvip.backbones.Backbone`.

    Vectors equal those of transformers' own ``get_image_features`` and ``get_text_features``.

    Parameters
    ----------
    name
        What the user asked for; kept for messages and the run's configuration.
    folder
        Where ``config.json``, the weights (safetensors), tokeniser and preprocessor are.
    device
        Where to compute.

    Attributes
    ----------
    family
        ``"clip"`` or ``"siglip"``.

    Raises
    ------
    BackboneError
        The folder is not a complete model of a known family.
    """

    def __init__(self, name: str, folder: Path, device: torch.device) -> None:
        self.name = name
        self.device = device
        self._folder = folder
        self.family = family = _model_type(folder)
        if family not in _TEXT_TOWERS:
            raise BackboneError(
                f"{folder} holds a model of type {family!r}, which medvip does not know",
                fix=f"use a model of one of these types: {', '.join(sorted(_TEXT_TOWERS))}",
            )
        _require_files(folder)
        with _explaining(folder):
            self._model, self._tokenizer, self._processor = _load_parts(family, folder)
        self._model.eval().requires_grad_(False).to(device)
        self._text = _TEXT_TOWERS[family](self._model, self._tokenizer)
        config = self._model.config
        self.image_size = int(config.vision_config.image_size)
        self.token_dim = int(config.text_config.hidden_size)
        self.context_length = int(config.text_config.max_position_embeddings)
        self.embed_dim = self.tower_dim = self._text.embed_dim
        self.start_tokens = self._text.start_tokens
        self.logit_scale = float(self._model.logit_scale.detach())

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, configuration, tokeniser and preprocessor files."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"medvip huggingface backbone 1")
        files = sorted({file for pattern in _FILES for file in self._folder.glob(pattern)})
        for file in files:
            with file.open("rb") as opened:
                digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def preprocess(self, picture: Image.Image, *, framed: bool = False) -> Float[Tensor, "3 size size"]:
        """The model's own preprocessor (its Pillow form); `framed`: without resizing and cropping."""
        if not framed and self._keeps_little_of(picture.size):
            how, size = self._processor, picture.size
            crop = (int(how.crop_size["width"]), int(how.crop_size["height"]))
            filter_ = Image.Resampling(how.resample)
            picture, framed = middle_of_strip(picture, _resized(how, size), crop, filter_), True
        how = {"do_resize": False, "do_center_crop": False} if framed else {}
        return self._processor(picture, return_tensors="pt", **how)["pixel_values"][0]

    @torch.no_grad()
    def encode_images(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """Image vectors in the joint space."""
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        return torch.cat([self._image_encoder(part.to(self.device)) for part in pixels.split(chunk)])

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        """A tower of its own to be trained; see `medvip.backbones.protocol.TrainableBackbone`."""
        encoder, projection = self._image_parts
        if pretrained:
            tower = ImageTower(copy.deepcopy(encoder), copy.deepcopy(projection))
        else:
            tower = ImageTower(type(encoder)(encoder.config), copy.deepcopy(projection))
            for layer in tower.projection.modules():
                if isinstance(layer, nn.Linear):  # as transformers does it
                    factor = self._model.config.initializer_factor
                    nn.init.normal_(layer.weight, std=factor * layer.in_features**-0.5)
        return tower.to(self.device).requires_grad_(True)

    mean_of_places_is_image = False

    @property
    def what_places_are(self) -> str:
        """See `medvip.backbones.protocol.SpatialBackbone`."""
        return _WHAT_PLACES_ARE[self.family]

    @torch.no_grad()
    def encode_places(
        self, pixels: Float[Tensor, "batch 3 size size"]
    ) -> tuple[Float[Tensor, "batch row column dim"]]:
        """Each patch's token brought into the joint space; the image's vector is no mean of these.

        CLIP reads the image off at a class token: patches go through its last norm and projection,
        which were trained for that token. SigLIP pools all patches by attention: each goes through
        the pooling head as if it were the only one.
        """
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        return (torch.cat([self._places(part.to(self.device)) for part in pixels.split(chunk)]),)

    def _places(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch row column dim"]:
        tower: Any = self._image_encoder
        states = tower.encoder(pixel_values=pixels).last_hidden_state
        side = self.image_size // int(self._model.config.vision_config.patch_size)
        if self.family == "clip":
            patches = tower.projection(
                tower.encoder.post_layernorm(states[:, 1:])
            )  # the first is the class token
        else:
            patches = tower.encoder.head(states.flatten(0, 1)[:, None]).unflatten(0, states.shape[:2])
        return patches.unflatten(1, (side, side))

    def seen_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What the model's own preprocessor keeps, in pixels of the picture before."""
        how, size = self._processor, (width, height)
        resized = _resized(how, size) if how.do_resize else size
        crops = getattr(how, "do_center_crop", False)
        crop = (int(how.crop_size["width"]), int(how.crop_size["height"])) if crops else resized
        return crop_box(size, resized, crop)

    def _keeps_little_of(self, size: tuple[int, int]) -> bool:
        """Whether the preprocessor enlarges a strip of that size and then keeps a part of it."""
        how = self._processor
        if not how.do_resize or not getattr(how, "do_center_crop", False):
            return False
        width, height = _resized(how, size)
        return (
            is_strip(size, (width, height))
            and int(how.crop_size["width"]) <= width
            and int(how.crop_size["height"]) <= height
        )

    @property
    def _image_parts(self) -> tuple[nn.Module, nn.Module]:
        """Encoder and projection, which SigLIP has none of."""
        return self._model.vision_model, getattr(self._model, "visual_projection", nn.Identity())

    @cached_property
    def _image_encoder(self) -> nn.Module:
        from medvip.backbones.frozen_encoder import frozen_copy

        return frozen_copy(ImageTower(*self._image_parts)).eval()

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids cut to the longest end position, padding behind each end."""
        encoded = [self._text.token_ids(text) for text in texts]
        end = torch.tensor([len(ids) - 1 for ids in encoded])
        ids = torch.full((len(encoded), int(end.max()) + 1), self._text.padding_id)
        for row, text in zip(ids, encoded, strict=True):
            row[: len(text)] = torch.tensor(text)
        return Tokens(ids.to(self.device), end.to(self.device))

    def embed_tokens(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token token_dim"]:
        """Rows of the token embedding."""
        return self._model.text_model.embeddings.token_embedding(ids)

    def encode_tokens(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Text vectors in the joint space."""
        return self._text.encode(embeddings, end)

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """Text vectors behind shared context; see `medvip.backbones.protocol.encode_with_context`."""
        return self._text.encode_with_context(context, tokens, end)


class ImageTower(nn.Module):
    """The image side alone: pixels [batch, 3, size, size] to vectors in the joint space."""

    def __init__(self, encoder: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, projection

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
        """What ``get_image_features`` gives."""
        return self.projection(self.encoder(pixel_values=pixels).pooler_output)


class TextTower(Protocol):
    """What differs between the families' text sides."""

    embed_dim: int
    start_tokens: int
    padding_id: int

    def __init__(self, model: Any, tokenizer: Any) -> None: ...

    def token_ids(self, text: str) -> list[int]:
        """Ids from the start token (where there is one) to the end token, without padding."""
        ...

    def encode(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """Positions, layers, pooling and projection."""
        ...

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """The same for texts that share the context behind their start tokens."""
        ...


class ClipTextTower:
    """CLIP: causal, read off at the end token; computed by `medvip.backbones.clip_text`."""

    start_tokens = 1

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tower, self._tokenizer = ClipText(model.text_model, model.text_projection), tokenizer
        self.embed_dim = int(model.config.projection_dim)
        self.padding_id = int(tokenizer.eos_token_id)

    def token_ids(self, text: str) -> list[int]:
        """Start token, byte pairs, end token."""
        return list(self._tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def encode(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """The state of the end token, projected."""
        return self._tower.encode(embeddings, end)

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """The same, the context computed once for all texts."""
        return self._tower.encode_with_context(context, tokens, end)


class SiglipTextTower:
    """SigLIP: attends in both directions, padding included, and is read off at the last position.

    It was trained on texts padded to the full context length, without a mask. So whatever comes
    in is padded to that length again, and cutting is exact from the outside.
    """

    start_tokens = 0

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tower, self._tokenizer = model.text_model, tokenizer
        self._length = int(model.config.text_config.max_position_embeddings)
        self.embed_dim = int(model.text_model.head.out_features)
        self.padding_id = int(tokenizer.pad_token_id)

    def token_ids(self, text: str) -> list[int]:
        """Word pieces, end token."""
        return list(self._tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def encode(
        self, embeddings: Float[Tensor, "text token token_dim"], end: Int[Tensor, " text"]
    ) -> Float[Tensor, "text dim"]:
        """The state of the last position, through the head."""
        padding = self._tower.embeddings.token_embedding.weight[self.padding_id]
        behind_end = torch.arange(embeddings.shape[1], device=end.device) > end[:, None]
        embeddings = torch.where(behind_end[..., None], padding, embeddings)
        missing = self._length - embeddings.shape[1]
        padded = torch.cat([embeddings, padding.expand(len(embeddings), missing, -1)], dim=1)
        states = self._tower.embeddings(inputs_embeds=padded)
        states = self._tower.encoder(inputs_embeds=states, attention_mask=None).last_hidden_state
        return self._tower.head(self._tower.final_layer_norm(states[:, -1]))

    def encode_with_context(
        self,
        context: Float[Tensor, "run context token_dim"],
        tokens: Float[Tensor, "text token token_dim"],
        end: Int[Tensor, " text"],
    ) -> Float[Tensor, "run text dim"]:
        """Every text of every run for itself: context looks different in front of each."""
        vectors = self.encode(*inserted(context, tokens, end, self.start_tokens))
        return vectors.unflatten(0, (len(context), len(tokens)))


_WHAT_PLACES_ARE = {
    "clip": "the patch's token through the class token's norm and projection",
    "siglip": "the patch's token through the pooling head, as if it were the only one",
}


def _resized(how: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height behind the preprocessor's resizing."""
    wanted = dict(how.size)
    if "shortest_edge" not in wanted:
        return int(wanted["width"]), int(wanted["height"])
    width, height = (int(wanted["shortest_edge"] * length / min(size)) for length in size)
    return width, height


_TEXT_TOWERS: dict[str, type[TextTower]] = {"clip": ClipTextTower, "siglip": SiglipTextTower}


def download(hub_id: str) -> Path:
    """Folder of a model from the hub: the copy on this machine, or fetched with a progress bar.

    Raises
    ------
    BackboneError
        No such model, or no network and no copy here.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        local = Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=list(_FILES)))
        if (local / "config.json").is_file() and any(local.glob("*.safetensors")):
            return local
    except LocalEntryNotFoundError:
        pass
    elsewhere = (
        f"on a machine with a network run: hf download {hub_id} --local-dir FOLDER; "
        "copy FOLDER here and pass --backbone FOLDER; or use --backbone embedded, which needs no download"
    )
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES)))
    except GatedRepoError as error:
        raise BackboneError(
            f"the hub wants you to accept the terms of {hub_id} first",
            fix=f"accept them on the model's page, run 'hf auth login', or {elsewhere}",
        ) from error
    except RepositoryNotFoundError as error:
        raise BackboneError(f"the hub has no model {hub_id}", fix="check its spelling") from error
    except Exception as error:  # the client's network errors share no base class
        raise BackboneError(
            f"{hub_id} is not on this machine and cannot be downloaded ({type(error).__name__})",
            fix=elsewhere,
        ) from error


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' progress bar and advice while weights are read from disk."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _load_parts(family: str, folder: Path) -> tuple[Any, Any, Any]:
    import transformers
    from transformers import AutoTokenizer

    model_class = {"clip": "CLIPModel", "siglip": "SiglipModel"}[family]
    processor_class = {"clip": "CLIPImageProcessorPil", "siglip": "SiglipImageProcessorPil"}[family]
    with quiet_loading():
        model, loading = getattr(transformers, model_class).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        processor = getattr(transformers, processor_class).from_pretrained(folder, local_files_only=True)
    if loading["missing_keys"]:  # transformers would go on with random numbers in their place
        absent = sorted(loading["missing_keys"])
        raise ValueError(f"its weights lack {len(absent)} tensors, {absent[0]} first")
    return model, tokenizer, processor


def _model_type(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return str(config["model_type"])
    except FileNotFoundError:
        problem = "has no config.json"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"has a config.json that cannot be used ({type(error).__name__})"
    raise BackboneError(
        f"{folder} {problem}", fix="pass the folder of a CLIP or SigLIP model as the hub has it"
    )


def _require_files(folder: Path) -> None:
    """Refuse a folder without weights that are safe to open, or without the tokeniser's vocabulary.

    Without a vocabulary transformers goes on with one of three words: every text becomes the same.
    """
    if not any(folder.glob("*.safetensors")):
        pickle = next(folder.glob("*.bin"), None)
        if pickle is None:
            raise BackboneError(
                f"{folder} holds no weights as safetensors",
                fix="use a copy of the model with model.safetensors",
            )
        raise BackboneError(
            f"{folder} holds its weights only as {pickle.name}: a pickle, never opened (it can run code)",
            fix="use a copy of the model with model.safetensors; or, if you trust this one, write it: "
            'python -c "from transformers import AutoModel as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}')\"",
        )
    names = {file.name for file in folder.iterdir()}
    forms = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"}, {"tokenizer.model"})
    if not any(form <= names for form in forms):
        raise BackboneError(
            f"{folder} holds no tokeniser",
            fix="add tokenizer.json, or vocab.json and merges.txt, or spiece.model, from the model's source",
        )


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Whatever fails while a model folder is read, as one clear error."""
    try:
        yield
    except ImportError as error:
        raise BackboneError(
            f"{folder} needs a package that is not installed: {str(error).strip().splitlines()[0]}",
            fix="pip install 'medvip[siglip]' (SigLIP's tokeniser needs sentencepiece and protobuf)",
        ) from error
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BackboneError(
            f"{folder} cannot be loaded: {first_line}",
            fix="the folder must hold config.json, model.safetensors, tokeniser and preprocessor files",
        ) from error


def causal_mask(states: Float[Tensor, "text token width"]) -> Float[Tensor, "1 1 token token"]:
    """What a causal layer adds to its attention scores: no token sees those behind it."""
    length = states.shape[1]
    lowest = torch.finfo(states.dtype).min
    blocked = torch.full((length, length), lowest, dtype=states.dtype, device=states.device)
    return blocked.triu(1)[None, None]
