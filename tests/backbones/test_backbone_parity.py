"""CLIP and SigLIP: vectors equal those that transformers itself computes from the same folder."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medvip.backbones import Backbone, load_backbone
from medvip.backbones.protocol import encode_texts

FAMILIES = ["clip", "siglip"]
# Of one token to some fifty; with capitals, signs and letters outside ASCII.
TEXTS = [
    "",
    "a",
    "white cloudy patches",
    "Warm, like FIRE!",
    "naïve façade 3 µm",
    "the color of blood and ink",
]


def assert_same_vectors(found: Tensor, expected: Tensor) -> None:
    """To 1e-5 of their length: what is asked of a vector afterwards is its direction."""
    assert found.shape == expected.shape
    assert ((found - expected).norm(dim=-1) <= 1e-5 * expected.norm(dim=-1)).all()


@dataclass(frozen=True)
class Reference:
    """transformers' own model and tokeniser of a folder."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> Reference:
        from transformers import AutoModel, AutoTokenizer

        return cls(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))

    @torch.no_grad()
    def text_vectors(self, texts: list[str]) -> Tensor:
        """As each family's documentation says: SigLIP padded to its full length, and no mask."""
        if self.model.config.model_type == "siglip":
            tokens = self.tokenizer(texts, padding="max_length", max_length=64, return_tensors="pt")
            return self.model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        return self.model.get_text_features(
            **self.tokenizer(texts, padding=True, return_tensors="pt")
        ).pooler_output

    @torch.no_grad()
    def text_vectors_with_context(self, texts: list[str], context: Tensor, start_tokens: int) -> Tensor:
        """The context vectors as new words of the vocabulary, put into the ids."""
        model = copy.deepcopy(self.model)
        embeddings = model.text_model.embeddings
        words = embeddings.token_embedding.weight
        embeddings.token_embedding = nn.Embedding.from_pretrained(torch.cat([words, context]))
        new_words = list(range(len(words), len(words) + len(context)))
        vectors = []
        for text in texts:
            ids = self.tokenizer(text)["input_ids"]
            ids = ids[:start_tokens] + new_words + ids[start_tokens:]
            if model.config.model_type == "siglip":
                ids += [self.tokenizer.pad_token_id] * (64 - len(ids))
            vectors.append(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output)
        return torch.cat(vectors)


@pytest.fixture(scope="module")
def folders(tiny_clip: Path, tiny_siglip: Path) -> dict[str, Path]:
    return {"clip": tiny_clip, "siglip": tiny_siglip}


@pytest.fixture(scope="module")
def backbones(folders: dict[str, Path]) -> dict[str, Backbone]:
    return {family: load_backbone(str(folder), device="cpu") for family, folder in folders.items()}


@pytest.fixture(scope="module")
def references(folders: dict[str, Path]) -> dict[str, Reference]:
    return {family: Reference.load(folder) for family, folder in folders.items()}


def with_context(backbone: Backbone, texts: list[str], context: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts [start, context, text, end] and their end positions."""
    ids, end = backbone.tokenize(texts)
    start, rest = backbone.embed_tokens(ids).tensor_split([backbone.start_tokens], dim=1)
    return torch.cat([start, context.expand(len(texts), -1, -1), rest], dim=1), end + len(context)


@pytest.mark.parametrize("family", FAMILIES)
def test_backbone_follows_the_protocol(backbones, folders, family):
    backbone = backbones[family]
    config = json.loads((folders[family] / "config.json").read_text())
    assert isinstance(backbone, Backbone)
    assert backbone.image_size == config["vision_config"]["image_size"]
    assert backbone.token_dim == config["text_config"]["hidden_size"]
    assert backbone.context_length == config["text_config"]["max_position_embeddings"]
    assert backbone.embed_dim == encode_texts(backbone, ["a"]).shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_image_vectors_equal_transformers(backbones, references, family):
    pixels = torch.randn(5, 3, 30, 30, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = references[family].model.get_image_features(pixel_values=pixels).pooler_output
    found = backbones[family].encode_images(pixels)
    assert_same_vectors(found, expected)
    assert torch.pdist(found).min() > 0.1, "pictures must differ, or the comparison says nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_text_vectors_equal_transformers(backbones, references, family):
    found = encode_texts(backbones[family], TEXTS)
    assert_same_vectors(found, references[family].text_vectors(TEXTS))
    assert torch.pdist(found).min() > 0.01, "texts must differ, or the comparison says nothing"


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=10, deadline=None)
@given(texts=st.lists(st.text("abcdeXYZ019 ,.'-éß影🙂", max_size=18), min_size=1, max_size=8))
def test_any_text_equals_transformers(backbones, references, family, texts):
    found = encode_texts(backbones[family], texts)
    assert_same_vectors(found, references[family].text_vectors(texts))


def test_legacy_clip_config_with_end_token_2_is_read_at_the_end_token(tiny_clip, tmp_path):
    """The folders of openai/clip-* say eos_token_id 2, which is not their end token's id."""
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    reference = Reference.load(folder)
    assert reference.model.text_model.eos_token_id == 2
    found = encode_texts(load_backbone(str(folder), device="cpu"), TEXTS)
    assert_same_vectors(found, reference.text_vectors(TEXTS))


def test_siglip_whose_padding_is_not_its_end_token_equals_transformers(tiny_siglip, tmp_path):
    """SigLIP 2 pads with <pad>; SigLIP itself with its end token."""
    folder = shutil.copytree(tiny_siglip, tmp_path / "siglip")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<pad>"}))
    reference = Reference.load(folder)
    assert reference.tokenizer.pad_token_id != reference.tokenizer.eos_token_id
    found = encode_texts(load_backbone(str(folder), device="cpu"), TEXTS)
    assert_same_vectors(found, reference.text_vectors(TEXTS))


@pytest.mark.parametrize("family", FAMILIES)
def test_inserted_context_equals_new_words_in_transformers(backbones, references, family):
    backbone = backbones[family]
    context = torch.randn(4, backbone.token_dim, generator=torch.Generator().manual_seed(2))
    found = backbone.encode_tokens(*with_context(backbone, TEXTS, context))
    expected = references[family].text_vectors_with_context(TEXTS, context, backbone.start_tokens)
    assert_same_vectors(found, expected)
    assert (found - encode_texts(backbone, TEXTS)).abs().max() > 0.1, "context must matter"


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_prompts_equal_prompts_padded_to_the_context_length(backbones, family, length):
    backbone = backbones[family]
    context = torch.randn(length, backbone.token_dim, generator=torch.Generator().manual_seed(3))
    prompts, end = with_context(backbone, TEXTS, context)
    assert prompts.shape[1] == int(end.max()) + 1 < backbone.context_length
    padding = torch.randn(
        len(TEXTS), backbone.context_length - prompts.shape[1], backbone.token_dim,
        generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    uncut = backbone.encode_tokens(torch.cat([prompts, padding], dim=1), end)
    assert_same_vectors(backbone.encode_tokens(prompts, end), uncut)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_alone_equals_itself_among_longer_ones(backbones, family):
    alone = torch.cat([encode_texts(backbones[family], [text]) for text in TEXTS])
    assert_same_vectors(encode_texts(backbones[family], TEXTS), alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_context_vector_and_no_parameter(backbones, family):
    backbone = backbones[family]
    context = torch.randn(3, backbone.token_dim).requires_grad_()
    backbone.encode_tokens(*with_context(backbone, TEXTS, context)).square().sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().sum(dim=1) > 0).all()
    assert not any(parameter.requires_grad for parameter in backbone._model.parameters())
    assert not backbone._model.training


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_context_equals_finite_differences(backbones, family):
    backbone = backbones[family]
    context = torch.randn(2, backbone.token_dim, generator=torch.Generator().manual_seed(5))
    direction = torch.randn(2, backbone.token_dim, generator=torch.Generator().manual_seed(6))

    def first_coordinate(vectors: Tensor) -> Tensor:
        return backbone.encode_tokens(*with_context(backbone, ["round"], vectors))[0, 0]

    learned = context.clone().requires_grad_()
    first_coordinate(learned).backward()
    step = 1e-2
    slope = (first_coordinate(context + step * direction) - first_coordinate(context - step * direction)) / (
        2 * step
    )
    torch.testing.assert_close((learned.grad * direction).sum(), slope, rtol=2e-2, atol=1e-3)
