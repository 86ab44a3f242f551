"""Fine-tuning and training from scratch against torch written out, and all that they must leave alone."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import made_up
from torch import nn

import medvip
from medvip.backbones import Backbone, load_backbone
from medvip.backbones.protocol import TrainableBackbone
from medvip.cli.main import main
from medvip.errors import NotFittedError, RunError, TrainingError, UnreadableImages, UsageError
from medvip.features import Augmentation, Pictures, open_pictures
from medvip.methods import create_method, describe_options
from medvip.methods.supervised import FineTuned, FromScratch
from medvip.training import Recipe
from medvip.types import ImageDataset

CLASSES = ("blue", "green", "red")
SHORT = Recipe(
    optimizer="adamw", epochs=2, learning_rate=1e-3, batch_size=8, warmup_epochs=0, weight_decay=0.01
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Backbone:
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture(scope="module")
def siglip(tiny_siglip: Path) -> Backbone:
    return load_backbone(str(tiny_siglip), device="cpu")


@pytest.fixture(scope="module")
def embedded() -> Backbone:
    return load_backbone("embedded", device="cpu")


@pytest.fixture(scope="module")
def dataset(tiny_images: Path) -> ImageDataset:
    return medvip.load_dataset(tiny_images)


@pytest.fixture(scope="module")
def pictures(dataset: ImageDataset, clip: Backbone) -> Pictures:
    return open_pictures(dataset, clip, augmentation=Augmentation(views=2))


def pixels(images: int = 4, side: int = 30) -> torch.Tensor:
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(0))


# The tower


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
def test_the_tower_starts_as_the_backbones_and_is_a_copy(kind: str, request: pytest.FixtureRequest) -> None:
    backbone = request.getfixturevalue(kind)
    assert isinstance(backbone, TrainableBackbone)
    images = pixels(3, backbone.image_size)
    vectors, tower = backbone.encode_images(images), backbone.image_tower()
    before = tower.eval()(images).detach()
    assert before.shape == (3, backbone.tower_dim)
    if kind != "embedded":  # whose vectors are made of all stages, see the next test
        torch.testing.assert_close(before, vectors, atol=2e-5, rtol=1e-5)
    tower(images).square().sum().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        with torch.no_grad():
            parameter.normal_()
    assert torch.equal(backbone.encode_images(images), vectors)
    torch.testing.assert_close(backbone.image_tower().eval()(images).detach(), before, atol=2e-5, rtol=1e-5)


def test_the_embedded_tower_is_the_packages_own_network(embedded: Backbone) -> None:
    """All of it but the classifier, with its normalisations, trained as torch trains them."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(embedded._image_weights, weights_only=True))
    tower = embedded.image_tower()
    ours = {name.removeprefix("network."): tensor for name, tensor in tower.state_dict().items()}
    theirs = network.state_dict()
    assert theirs.keys() - ours.keys() == {"_fc.weight", "_fc.bias"}
    assert ours.keys() - theirs.keys() == {"mean"}
    for name in ours.keys() & theirs.keys():
        assert torch.equal(ours[name], theirs[name]), name
    normalisations = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(normalisations) == 49
    assert {module.momentum for module in normalisations} == {nn.BatchNorm2d(1).momentum}
    network._fc = nn.Identity()
    images = pixels(2, 224)
    vectors = network.eval()(images) - tower.mean
    assert vectors.shape == (2, 1280)
    assert embedded.tower_dim == 1280
    torch.testing.assert_close(tower.eval()(images), vectors, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip", "embedded"])
def test_random_weights_have_the_same_shapes_and_nothing_of_the_pretrained(
    kind: str, request: pytest.FixtureRequest
) -> None:
    backbone = request.getfixturevalue(kind)
    pretrained = backbone.image_tower().state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        random = backbone.image_tower(pretrained=False).state_dict()
        torch.manual_seed(3)
        again = backbone.image_tower(pretrained=False).state_dict()
    assert {name: t.shape for name, t in random.items()} == {name: t.shape for name, t in pretrained.items()}
    for name, tensor in random.items():
        assert torch.equal(tensor, again[name]), name
        if tensor.dim() > 1:
            both = torch.stack([tensor.flatten(), pretrained[name].flatten()])
            assert abs(torch.corrcoef(both)[0, 1]) < 6 / math.sqrt(tensor.numel()), name


def test_a_random_clip_is_drawn_as_transformers_draws_it(clip: Backbone, tiny_clip: Path) -> None:
    from transformers import CLIPConfig, CLIPVisionModelWithProjection

    config = CLIPConfig.from_pretrained(tiny_clip).vision_config
    config.projection_dim = 24
    theirs = CLIPVisionModelWithProjection(config)
    ours = clip.image_tower(pretrained=False)
    for one, other in (
        (ours.projection.weight, theirs.visual_projection.weight),
        (
            ours.encoder.embeddings.patch_embedding.weight,
            theirs.vision_model.embeddings.patch_embedding.weight,
        ),
        (ours.encoder.encoder.layers[0].mlp.fc1.weight, theirs.vision_model.encoder.layers[0].mlp.fc1.weight),
    ):
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.15)


# Training


def test_fine_tuning_is_torch_written_out(clip: Backbone, tiny_clip: Path, pictures: Pictures) -> None:
    """transformers' own image model and a linear layer, two rates, the same order of images and views."""
    from transformers import CLIPVisionModelWithProjection

    recipe = replace(SHORT, epochs=3, learning_rate=1.5e-3, select_by="last")
    method = FineTuned(clip, tower_rate=0.2, recipe=recipe, seed=4).fit(pictures.train, pictures.val)

    config = clip._model.config.vision_config
    tower = CLIPVisionModelWithProjection(copy.deepcopy(config))
    tower.visual_projection = nn.Linear(40, 24, bias=False)
    tower.vision_model.load_state_dict(clip._model.vision_model.state_dict())
    tower.visual_projection.load_state_dict(clip._model.visual_projection.state_dict())
    head = nn.Linear(24, 3)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizers = [torch.optim.AdamW(part.parameters(), weight_decay=0.01) for part in (tower.train(), head)]
    random = torch.Generator().manual_seed(4)
    table, losses = pictures.train, []
    for epoch in range(3):
        rate = 1.5e-3 * (1 + math.cos(math.pi * epoch / 3)) / 2
        optimizers[0].param_groups[0]["lr"], optimizers[1].param_groups[0]["lr"] = 0.2 * rate, rate
        order = torch.randperm(len(table), generator=random)
        view = torch.randint(3, (len(table),), generator=random)
        total = 0.0
        for start in range(0, len(table), 8):
            batch = order[start : start + 8]
            images = torch.stack([table._pixels((int(i), int(view[i]))) for i in batch])
            logits = head(tower(pixel_values=images).image_embeds)
            loss = -logits.log_softmax(1)[torch.arange(len(batch)), table.labels[batch]].mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            total += float(loss.detach()) * len(batch)
        losses.append(total / len(table))
    assert [entry["loss"] for entry in method.history] == pytest.approx(losses, abs=1e-4)
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        expected = head(tower.eval()(pixel_values=pixels()).image_embeds).softmax(1)
    np.testing.assert_allclose(method.predict_proba(pixels()), expected.numpy(), atol=1e-3)


@pytest.mark.parametrize("method", [FineTuned, FromScratch])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_it_learns_and_leaves_the_backbone_alone(
    method: type, kind: str, dataset: ImageDataset, request: pytest.FixtureRequest
) -> None:
    backbone = request.getfixturevalue(kind)
    before = {name: tensor.clone() for name, tensor in backbone._model.state_dict().items()}
    tables = open_pictures(dataset, backbone)
    quick = {"tower_rate": 1.0} if method is FineTuned else {}
    model = method(backbone, recipe=replace(SHORT, epochs=12, select_by="last"), **quick)
    model.fit(tables.train, tables.val)
    assert model.history[-1]["loss"] < 0.5 * model.history[0]["loss"]
    for name, tensor in backbone._model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(parameter.requires_grad for parameter in backbone._model.parameters())
    table = model.predict_proba(pixels())
    assert table.dtype == np.float64
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("name", ["fine-tuned", "from-scratch"])
def test_same_seed_same_bits_whatever_else_draws_numbers(
    name: str, clip: Backbone, pictures: Pictures
) -> None:
    def fitted(seed: int):
        return create_method(name, clip, None, recipe=SHORT, seed=seed).fit(pictures.train, pictures.val)

    torch.manual_seed(10)
    one = fitted(1)
    torch.manual_seed(11)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(11))
    two = fitted(1)
    assert torch.equal(torch.rand(3), expected), "the global generator is where it was"
    other = fitted(2)
    for key, tensor in one.state().items():
        assert torch.equal(tensor, two.state()[key]), key
    assert not torch.equal(one.state()["head.weight"], other.state()["head.weight"])

    restored = create_method(name, clip, None, **json.loads(json.dumps(one.options())))
    assert restored.options() == one.options()
    torch.manual_seed(11)
    restored.load_state(CLASSES, {key: tensor.clone() for key, tensor in one.state().items()})
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(restored.predict_proba(pixels()), one.predict_proba(pixels()))
    assert restored.state().keys() == one.state().keys()


class Normalising(nn.Module):
    """A convolution, a batch normalisation, the mean over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, bias=False)
        self.normalisation = nn.BatchNorm2d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.normalisation(self.convolution(images)).relu().mean((2, 3))


class NormalisingBackbone:
    """A `Backbone` with such a tower; everything else is a CLIP's."""

    def __init__(self, clip: Backbone) -> None:
        for name in ("image_size", "token_dim", "context_length", "start_tokens", "logit_scale", "device"):
            setattr(self, name, getattr(clip, name))
        self.name, self.fingerprint = "normalising", "normalising"
        self.embed_dim = self.tower_dim = 6
        for name in ("preprocess", "tokenize", "embed_tokens", "encode_tokens"):
            setattr(self, name, getattr(clip, name))
        self.shared = Normalising().eval()

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        return self.shared(images)

    def image_tower(self, *, pretrained: bool = True) -> nn.Module:
        return copy.deepcopy(self.shared) if pretrained else Normalising()


def test_normalisations_learn_from_batches_and_predict_from_averages(
    clip: Backbone, dataset: ImageDataset
) -> None:
    backbone = NormalisingBackbone(clip)
    shared = copy.deepcopy(backbone.shared.state_dict())
    tables = open_pictures(dataset, backbone)
    # One step at rate 0: weights stay, the averages move by a tenth towards the batch's statistics.
    still = replace(SHORT, epochs=1, learning_rate=0.0, batch_size=1000, select_by="last")
    method = FineTuned(backbone, recipe=still).fit(tables.train, tables.val)
    state = method.state()
    assert torch.equal(state["tower.convolution.weight"], shared["convolution.weight"])
    images = torch.cat(list(tables.train.parts()))
    maps = nn.functional.conv2d(images, shared["convolution.weight"]).detach()
    torch.testing.assert_close(state["tower.normalisation.running_mean"], 0.1 * maps.mean((0, 2, 3)))
    torch.testing.assert_close(
        state["tower.normalisation.running_var"], 0.9 + 0.1 * maps.transpose(0, 1).flatten(1).var(1)
    )
    for name, tensor in backbone.shared.state_dict().items():
        assert torch.equal(tensor, shared[name]), name

    method = FineTuned(backbone, recipe=replace(SHORT, epochs=10)).fit(tables.train, tables.val)
    state = {name: tensor.clone() for name, tensor in method.state().items()}
    together = method.predict_proba(pixels(6))
    alone = np.concatenate([method.predict_proba(picture[None]) for picture in pixels(6)])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    for name, tensor in method.state().items():
        assert torch.equal(tensor, state[name]), "predicting changes nothing"
    by_hand = nn.functional.conv2d(pixels(6), state["tower.convolution.weight"])
    by_hand = nn.functional.batch_norm(
        by_hand,
        *(state[f"tower.normalisation.{name}"] for name in ("running_mean", "running_var", "weight", "bias")),
    )
    logits = by_hand.relu().mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(together, logits.softmax(1), atol=1e-6)


# Runs


@pytest.mark.parametrize("name", ["fine-tuned", "from-scratch"])
def test_a_run_folder_brings_it_back(
    name: str, clip: Backbone, dataset: ImageDataset, tmp_path: Path
) -> None:
    run = medvip.fit(
        dataset, clip, method=name, recipe=SHORT, out=tmp_path / "run", quiet=True,
        augmentation=Augmentation(views=1),
    )  # fmt: skip
    again = medvip.load_run(tmp_path / "run", backbone=clip)
    paths = [sample.path for sample in dataset.only("test")]
    np.testing.assert_array_equal(
        again.predict_proba(paths, quiet=True), run.predict_proba(paths, quiet=True)
    )
    assert [made.path for made in again.predict(paths, quiet=True)] == paths
    assert again.predict_proba([]).shape == (0, 3)
    assert again.evaluate(dataset, quiet=True).to_json() == run.metrics["test"]
    truth = [sample.label for sample in dataset.only("test")]
    right = np.mean(
        [made.prediction == label for made, label in zip(again.predict(paths), truth, strict=True)]
    )
    assert run.metrics["test"]["accuracy"]["value"] == pytest.approx(right)

    kept = load_file(tmp_path / "run" / "prompts.safetensors")
    numbers = sum(tensor.numel() for tensor in kept.values())
    assert numbers == sum(p.numel() for p in clip.image_tower().parameters()) + 3 * 24 + 3
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"{numbers:,} numbers, {4 * numbers / 1e6:.1f} MB" in card


def test_a_run_without_a_part_of_its_tower_is_refused(
    clip: Backbone, dataset: ImageDataset, tmp_path: Path
) -> None:
    medvip.fit(dataset, clip, method="fine-tuned", recipe=SHORT, out=tmp_path / "run", quiet=True)
    file, config = tmp_path / "run" / "prompts.safetensors", tmp_path / "run" / "config.json"
    whole = load_file(file)
    for name in ("tower.encoder.post_layernorm.bias", "head.weight"):
        save_file({key: tensor for key, tensor in whole.items() if key != name}, file)
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
        config.write_text(json.dumps(json.loads(config.read_text()) | {"prompts_sha256": checksum}))
        with pytest.raises(RunError, match="is damaged"):
            medvip.load_run(tmp_path / "run", backbone=clip)


def test_from_the_command_line(
    tiny_images: Path, tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: object) -> str:
        assert main([str(word) for word in words]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    out = command(
        "fit", tiny_images, "--out", tmp_path / "run", "--backbone", tiny_clip, "--method", "fine-tuned",
        "--epochs", 2, "--learning-rate", "1e-3", "--views", 1, "--option", "tower_rate=0.5", "--quiet",
    )  # fmt: skip
    assert "test: accuracy " in out
    options = json.loads((tmp_path / "run" / "config.json").read_text())["options"]
    assert (options["tower_rate"], options["recipe"]["epochs"]) == (0.5, 2)
    predictions = command("predict", tmp_path / "run", tiny_images / "red", "--quiet")
    assert predictions.count("\n") == 13
    assert "accuracy" in command("evaluate", tmp_path / "run", tiny_images, "--quiet")


def test_all_pictures_that_cannot_be_predicted_are_named(
    tiny_images: Path, clip: Backbone, dataset: ImageDataset, tmp_path: Path
) -> None:
    run = medvip.fit(dataset, clip, method="fine-tuned", recipe=replace(SHORT, epochs=1), quiet=True)
    bad = [tmp_path / "one.png", tmp_path / "two.png"]
    for file in bad:
        file.write_bytes(b"no picture")
    good = sorted((tiny_images / "red").glob("*.png"))
    with pytest.raises(UnreadableImages) as caught:
        run.predict([bad[0], *good, bad[1]], quiet=True)
    assert set(caught.value.reasons) == {str(file) for file in bad}


# What is refused, and what is chosen


def test_what_is_refused(clip: Backbone, pictures: Pictures) -> None:
    class Vectors(NormalisingBackbone):
        image_tower = None

    with pytest.raises(UsageError, match="does not give its image tower to be trained"):
        create_method("fine-tuned", Vectors(clip), None)
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match="tower_rate is"):
            create_method("fine-tuned", clip, None, tower_rate=wrong)
    method = create_method("from-scratch", clip, None, recipe=SHORT)
    with pytest.raises(NotFittedError, match="call fit first"):
        method.predict_proba(pixels())
    with pytest.raises(NotFittedError):
        method.state()
    without_red = pictures.train.taken(np.flatnonzero(pictures.train.labels.numpy() != 2))
    with pytest.raises(TrainingError, match="no training image of: red"):
        method.fit(without_red, pictures.val)
    with pytest.raises(TrainingError, match="choose the last epoch"):
        method.fit(pictures.train, pictures.val.taken(np.zeros(0, dtype=int)))
    with pytest.raises(UsageError, match="learns from pixels, but was given a FeatureTable"):
        method.fit(made_up(CLASSES, 6, 24), made_up(CLASSES, 6, 24))
    assert method.classes == ()


def test_the_best_epoch_before_a_ruined_one_is_kept(
    clip: Backbone, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medvip.training import loop

    original, calls = loop.validation_scores, []

    def ruined_at_second(*arguments):
        calls.append(1)
        scores = original(*arguments)
        return scores | ({"val_loss": math.nan} if len(calls) == 2 else {})

    monkeypatch.setattr(loop, "validation_scores", ruined_at_second)
    method = FineTuned(clip, recipe=replace(SHORT, epochs=4))
    with pytest.raises(TrainingError, match="not finite in epoch 2"):
        method.fit(pictures.train, pictures.val)
    assert method.classes == CLASSES
    assert len(method.history) == 1
    monkeypatch.setattr(loop, "validation_scores", original)
    one_epoch = FineTuned(clip, recipe=replace(SHORT, epochs=1)).fit(pictures.train, pictures.val)
    np.testing.assert_array_equal(method.predict_proba(pixels()), one_epoch.predict_proba(pixels()))


@pytest.mark.parametrize("name", ["fine-tuned", "from-scratch"])
def test_recipes_go_by_name(name: str, clip: Backbone) -> None:
    for recipe in ("paper", "fast"):
        made = create_method(name, clip, None, recipe=recipe).recipe
        assert made.optimizer == "adamw"
        assert made.select_by == "accuracy"
    assert describe_options(name)["recipe"].default == "paper"


@pytest.mark.parametrize(("kind", "rate"), [("embedded", 3e-4), ("clip", 9e-6), ("siglip", 9e-6)])
def test_a_pretrained_tower_learns_slowly_and_its_head_quickly(
    kind: str, rate: float, request: pytest.FixtureRequest
) -> None:
    backbone = request.getfixturevalue(kind)

    def rates(method: FineTuned | FromScratch, tower: nn.Module) -> list[float]:
        groups = method._new_model(2, pretrained=False).parameter_groups()
        assert sum(p.numel() for p in groups[0]["params"]) == sum(p.numel() for p in tower.parameters())
        assert [tuple(p.shape) for p in groups[1]["params"]] == [(2, backbone.tower_dim), (2,)]
        return [method.recipe.learning_rate * group["rate_factor"] for group in groups]

    tower = backbone.image_tower(pretrained=False)
    assert rates(FineTuned(backbone), tower) == pytest.approx([rate, 3e-3])
    assert rates(FineTuned(backbone, tower_rate=0.5), tower) == pytest.approx([1.5e-3, 3e-3])
    assert rates(FromScratch(backbone), tower) == pytest.approx([1e-3, 1e-3])


# The embedded tower, in earnest


@pytest.mark.slow
def test_the_embedded_tower_learns_drawn_phantoms(embedded: Backbone, tmp_path: Path) -> None:
    """Some steps on drawn pictures: the loss falls below guessing, and the run comes back to the bit."""
    from medvip.phantoms import draw_phantoms

    dataset = medvip.load_dataset(draw_phantoms(tmp_path / "phantoms", images=60, size=128))
    before = embedded.encode_images(pixels(2, 224))
    recipe = replace(FineTuned.recipes["fast"], epochs=8, min_steps=0, batch_size=12, warmup_epochs=0)
    run = medvip.fit(dataset, embedded, method="fine-tuned", recipe=recipe, out=tmp_path / "run", quiet=True)
    losses = [entry["loss"] for entry in run.method.history]
    assert min(losses) < 0.6 * math.log(2)
    assert torch.equal(embedded.encode_images(pixels(2, 224)), before)
    again = medvip.load_run(tmp_path / "run", backbone=embedded)
    paths = [sample.path for sample in dataset.only("test")]
    np.testing.assert_array_equal(
        again.predict_proba(paths, quiet=True), run.predict_proba(paths, quiet=True)
    )
    averages = [name for name in run.method.state() if name.endswith("running_mean")]
    start = embedded.image_tower().state_dict()
    assert len(averages) == 49
    assert all(not torch.equal(run.method.state()[n], start[n.removeprefix("tower.")]) for n in averages)
