"""CLIP and SigLIP with random weights and small vocabularies, made on the spot: no download.

Text width, image width and joint width differ on purpose, so that code which confuses them
fails.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "a photo of a small round spot with a clear edge",
    "white cloudy patches in the lungs, warm like fire, cold water",
    "the color of blood, leafy, like fresh grass and the open sky, ink",
] * 20


def build_tiny_clip(folder: Path) -> Path:
    """A CLIPModel folder: text width 32, image width 40, joint width 24, 30-pixel pictures."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = byte_letters()
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    end = len(words) - 1
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = CLIPConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "max_position_embeddings": 77,
            "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end, **layers,
        },
        vision_config={"hidden_size": 40, "image_size": 30, "patch_size": 10, **layers},
        projection_dim=24,
    )  # fmt: skip
    CLIPModel(_louder(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 30}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return folder


def build_tiny_siglip(folder: Path) -> Path:
    """A SiglipModel folder: text width 32, joint width 40 (SigLIP's is its image width), 64 tokens."""
    import sentencepiece
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipTokenizer

    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(SENTENCES), model_prefix=str(folder / "spiece"), vocab_size=60,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=64, pad_token="</s>")
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = SiglipConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "projection_size": 40,
            "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, **layers,
        },
        vision_config={"hidden_size": 40, "image_size": 30, "patch_size": 10, **layers},
    )  # fmt: skip
    SiglipModel(_louder(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 30, "width": 30}).save_pretrained(folder)
    return folder


def _louder(config):
    """Initial weights ten times the usual: with tiny ones everything would equal everything."""
    config.initializer_factor = config.text_config.initializer_factor = 10.0
    config.vision_config.initializer_factor = 10.0
    return config


def byte_letters() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE uses."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + index) for index in range(len(others))]
