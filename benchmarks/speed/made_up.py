"""What the measurements run on: random weights, symptoms of a given length, made-up vectors and pictures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from transformers.utils import logging

from medvip import SymptomSet
from medvip.features import FeatureTable

VOCABULARY = 49408
TOKENS = (8, 9, 11, 12)
"""Tokens of a symptom as a tokeniser counts them, start and end token included."""


def clip_vit_b16(folder: Path) -> Path:
    """A CLIP of ViT-B/16's sizes with random weights, as a folder in Hugging Face's form.

    Its tokeniser knows single bytes only, so every letter is a token; start and end tokens have
    the numbers that the real one's have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _byte_tokenizer(folder)
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            "vocab_size": VOCABULARY, "hidden_size": 512, "intermediate_size": 2048,
            "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77,
            "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": VOCABULARY - 1,
        },
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 16,
        },
        projection_dim=512,
    )  # fmt: skip
    logging.disable_progress_bar()
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}
    ).save_pretrained(folder)
    return folder


def load_clip(folder: Path) -> CLIPModel:
    """The model of transformers itself from such a folder, without a progress bar."""
    logging.disable_progress_bar()
    return CLIPModel.from_pretrained(folder)


def _byte_tokenizer(folder: Path) -> None:
    """Byte pairs without any merge; words that never come up fill the vocabulary to its real size."""
    letters = _byte_letters()
    words = letters + [letter + "</w>" for letter in letters]
    words += [f"<|unused {index}|>" for index in range(VOCABULARY - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)


def _byte_letters() -> list[str]:
    """The printable stand-ins of the 256 bytes in byte-level BPE."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(kept)
    return [chr(byte) for byte in kept] + [chr(256 + index) for index in range(others)]


def symptoms(classes: int, each: int, tokens: Sequence[int] = TOKENS) -> SymptomSet:
    """`each` symptoms a class, of as many tokens as `tokens` says in turn (every letter is one)."""
    letters = random.Random(0)
    by_class = {}
    for name in class_names(classes):
        lengths = [tokens[index % len(tokens)] - 2 for index in range(each)]
        by_class[name] = ["".join(letters.choices("abcdefghijklmnop", k=length)) for length in lengths]
    return SymptomSet.from_mapping(by_class)


def class_names(classes: int) -> tuple[str, ...]:
    """Sorted, as a data set has them."""
    return tuple(f"class {index:03}" for index in range(classes))


def table(images: int, dim: int, classes: int, seed: int = 0) -> FeatureTable:
    """Vectors around one centre a class, one view a picture. Holds its vectors once and no copy."""
    drawn = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(42))
    labels = torch.arange(images) % classes
    vectors = torch.randn(images, 1, dim, generator=drawn)
    for start in range(0, images, 4096):
        vectors[start : start + 4096, 0] += centres[labels[start : start + 4096]]
    names = tuple(f"{index}.png" for index in range(images))
    return FeatureTable(vectors, labels, class_names(classes), names, names, names, "made up")


def pictures(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Grey JPEGs of a smooth random pattern with some noise, `size` = (width, height), all different."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = Image.fromarray(drawn.integers(0, 255, (12, 16), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = smooth + drawn.normal(0, 6, smooth.shape)
        paths.append(folder / f"{index:05}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths
