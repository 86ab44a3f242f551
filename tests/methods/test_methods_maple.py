"""MaPLe against a literal loop over the layers, and all that it must leave alone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prompt_models import cosine_by_loop, learned, softmax_by_loop
from small_models import embedded_with_any_map, made_up

import medvip
from medvip.backbones import Backbone, load_backbone
from medvip.backbones.deep_prompts import DeepPromptClip
from medvip.backbones.protocol import encode_texts
from medvip.errors import NotFittedError, UsageError
from medvip.features import Augmentation, Pictures, open_pictures
from medvip.methods import create_method
from medvip.methods.maple import CoupledPrompts, MaPLe
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")
SHORT = Recipe(epochs=3, learning_rate=0.02, batch_size=6, warmup_epochs=0)


@pytest.fixture(scope="module")
def deep_clip(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP with four layers of text and three of pictures."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("deep")
    shutil.copytree(tiny_clip, folder, dirs_exist_ok=True)
    config = CLIPConfig.from_pretrained(tiny_clip)
    config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers = 4, 3
    torch.manual_seed(1)
    CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(deep_clip: Path) -> Backbone:
    return load_backbone(str(deep_clip), device="cpu")


@pytest.fixture(scope="module")
def pictures(tiny_images: Path, clip: Backbone) -> Pictures:
    return open_pictures(medvip.load_dataset(tiny_images), clip, augmentation=Augmentation(views=1))


def pixels(images: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, 3, 30, 30, generator=torch.Generator().manual_seed(seed))


# The literal loop: one picture or text at a time, head by head, on the weights of transformers' own model


def attention_by_loop(attention, states: torch.Tensor, causal: bool) -> torch.Tensor:
    queries, keys, values = (
        projection(states) for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    width = attention.head_dim
    rows = []
    for place in range(len(states)):
        seen = place + 1 if causal else len(states)
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = (keys[:seen, part] @ queries[place, part]).tolist()
            weights = softmax_by_loop([score / math.sqrt(width) for score in scores])
            heads.append(torch.tensor(weights, dtype=values.dtype) @ values[:seen, part])
        rows.append(torch.cat(heads))
    return attention.out_proj(torch.stack(rows))


def layers_by_loop(
    layers, states: torch.Tensor, prompts: Sequence[torch.Tensor], start: int, causal: bool
) -> torch.Tensor:
    for index, layer in enumerate(layers):
        if 1 <= index < len(prompts):
            states = states.clone()
            for offset, vector in enumerate(prompts[index]):
                states[start + offset] = vector
        states = states + attention_by_loop(layer.self_attn, layer.layer_norm1(states), causal)
        states = states + layer.mlp(layer.layer_norm2(states))
    return states


@torch.no_grad()
def image_by_loop(model, picture: torch.Tensor, prompts: torch.Tensor) -> np.ndarray:
    tower = model.vision_model
    patches = tower.embeddings(picture[None])[0]
    states = tower.pre_layrnorm(torch.stack([*patches, *prompts[0]]))
    states = layers_by_loop(tower.encoder.layers, states, prompts, len(patches), causal=False)
    return model.visual_projection(tower.post_layernorm(states[0])).numpy()


@torch.no_grad()
def text_by_loop(model, ids: Sequence[int | None], prompts: torch.Tensor) -> np.ndarray:
    """`ids`: None where a learned vector stands; the end is the last."""
    tower = model.text_model
    first = iter(prompts[0])
    tokens = [next(first) if i is None else tower.embeddings.token_embedding.weight[i] for i in ids]
    states = torch.stack(tokens) + tower.embeddings.position_embedding.weight[: len(ids)]
    states = layers_by_loop(tower.encoder.layers, states, prompts, 1, causal=True)
    return model.text_projection(tower.final_layer_norm(states[len(ids) - 1])).numpy()


@pytest.mark.parametrize(
    ("context", "depth", "words"), [(2, 3, "a dot"), (1, 1, "a dot"), (3, 2, ""), (7, 3, "ab cd")]
)
def test_it_is_the_literal_loop(
    context: int, depth: int, words: str, clip: Backbone, deep_clip: Path
) -> None:
    """With words of enough tokens the first of them give way; else vectors stand before the name."""
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(deep_clip).eval().double()
    tokenizer = AutoTokenizer.from_pretrained(deep_clip)
    method = MaPLe(clip, context=context, depth=depth, init_words=words, seed=3)
    module = method._model(CLASSES)
    with torch.no_grad():  # far from where they start, so that every vector matters
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
    text = module.prompts.text.detach().double()
    weight, bias = module.prompts.weight.detach().double(), module.prompts.bias.detach().double()
    of_images = torch.stack(
        [
            torch.stack([weight[layer] @ vector + bias[layer] for vector in text[layer]])
            for layer in range(depth)
        ]
    )
    texts = []
    for name in CLASSES:
        taken = len(tokenizer(words)["input_ids"]) - 2 >= context
        ids = tokenizer(f"{words} {name}." if taken else f"{name}.")["input_ids"]
        start, rest = ids[:1], ids[1 + context :] if taken else ids[1:]
        texts.append(text_by_loop(model, [*start, *[None] * context, *rest], text))
    module.eval()
    logits = module(pixels()).detach().numpy()
    for picture, row in zip(pixels().double(), logits, strict=True):
        image = image_by_loop(model, picture, of_images)
        expected = [math.exp(clip.logit_scale) * cosine_by_loop(image, vector) for vector in texts]
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_without_vectors_it_is_the_backbone(clip: Backbone) -> None:
    both = DeepPromptClip(clip)
    nothing = torch.empty(2, 0, 40)
    torch.testing.assert_close(both.encode_images(pixels(), nothing), clip.encode_images(pixels()))
    ids, end = clip.tokenize(["red", "a green one", "blue"])
    vectors = both.encode_tokens(clip.embed_tokens(ids), end, torch.empty(2, 0, 32))
    expected = clip.encode_tokens(clip.embed_tokens(ids), end)
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5 * expected.norm(dim=1).max().item())
    assert (both.layers, both.image_width) == (3, 40)


def test_it_starts_from_the_words(clip: Backbone) -> None:
    """At depth 1 the text starts as "a photo of a <name>.", word for word."""
    vectors = MaPLe(clip, depth=1)._model(CLASSES).class_vectors()
    expected = encode_texts(clip, [f"a photo of a {name}." for name in CLASSES])
    torch.testing.assert_close(
        vectors.detach(), expected, rtol=0, atol=1e-5 * expected.norm(dim=1).max().item()
    )
    symptoms = SymptomSet.from_mapping({"nevus": ["x"], "red": ["y"]}, names={"nevus": "mole"})
    vectors = MaPLe(clip, symptoms, depth=1)._model(("nevus", "red")).class_vectors()
    expected = encode_texts(clip, ["a photo of a mole.", "a photo of a red."])
    torch.testing.assert_close(
        vectors.detach(), expected, rtol=0, atol=1e-5 * expected.norm(dim=1).max().item()
    )


# What is learned


@pytest.mark.parametrize(
    ("context", "depth", "token_dim", "width", "count"),
    [
        (2, 9, 512, 768, 3_555_072),  # ViT-B/16, the paper's 9 layers of 2
        (2, 3, 512, 768, 1_185_024),  # its setting across data sets
        (4, 12, 768, 1024, 12 * (4 * 768 + 768 * 1024 + 1024)),  # ViT-L/14
    ],
)
def test_numbers_learned(context: int, depth: int, token_dim: int, width: int, count: int) -> None:
    prompts = CoupledPrompts(torch.zeros(context, token_dim), depth, width, torch.Generator())
    assert learned(prompts) == count


def test_nothing_but_prompts_and_couplings_is_learned_or_kept(clip: Backbone) -> None:
    module = MaPLe(clip, depth=3)._model(CLASSES)
    assert {name for name, _ in module.named_parameters()} == {
        "prompts.text", "prompts.weight", "prompts.bias"
    }  # fmt: skip
    assert learned(module) == 3 * (2 * 32 + 32 * 40 + 40)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()} | {"tokens", "end"}


def test_where_it_starts() -> None:
    first = torch.randn(2, 512)
    prompts = CoupledPrompts(first, 9, 768, torch.Generator().manual_seed(0))
    assert torch.equal(prompts.text[0], first)
    assert prompts.text[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert prompts.text[1:].unique().numel() > 0.99 * 8 * 2 * 512
    # A linear layer of torch is drawn from U(-1/sqrt(inputs), 1/sqrt(inputs)).
    for layer in (0, 1):
        assert prompts.weight[layer].abs().max().item() == pytest.approx(512**-0.5, rel=0.01)
        assert prompts.weight[layer].std().item() == pytest.approx((3 * 512) ** -0.5, rel=0.01)
    assert all(torch.equal(prompts.weight[1], prompts.weight[layer]) for layer in range(2, 9))
    assert not torch.equal(prompts.weight[0], prompts.weight[1])


def test_gradients_reach_every_vector_of_every_layer(clip: Backbone) -> None:
    module = MaPLe(clip, depth=3)._model(CLASSES)
    torch.nn.functional.cross_entropy(module(pixels(6)), torch.tensor([0, 1, 2] * 2)).backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
    assert (module.prompts.text.grad.abs().sum(-1) > 0).all(), "each vector of each layer"
    assert (module.prompts.bias.grad.abs() > 0).all(), "each number of each coupling"
    assert (module.prompts.weight.grad.abs().sum((1, 2)) > 0).all()
    assert all(parameter.grad is None for parameter in clip._model.parameters())


def test_gradients_are_those_of_differences(deep_clip: Path) -> None:
    backbone = load_backbone(str(deep_clip), device="cpu")
    backbone._model.double()
    module = MaPLe(backbone, depth=3)._model(CLASSES).double()
    labels = torch.tensor([0, 1, 2] * 2)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(pixels(6).double()), labels)

    loss().backward()
    for parameter in module.parameters():
        for layer in range(3):
            direction = torch.zeros_like(parameter)
            direction[layer] = parameter.grad[layer] / parameter.grad[layer].norm()
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter += sign * 1e-6 * direction
                    values.append(loss().item())
                    parameter -= sign * 1e-6 * direction
            slope = (values[0] - values[1]) / 2e-6
            assert slope == pytest.approx(parameter.grad[layer].norm().item(), rel=1e-4, abs=1e-7)


# Fitting


def test_it_learns_and_leaves_the_backbone_alone(clip: Backbone, pictures: Pictures) -> None:
    before = {name: tensor.clone() for name, tensor in clip._model.state_dict().items()}
    method = MaPLe(clip, depth=3, recipe=replace(SHORT, epochs=6, select_by="last"))
    assert method.fit(pictures.train, pictures.val) is method
    losses = [entry["loss"] for entry in method.history]
    assert losses[-1] < 0.7 * losses[0]
    for name, tensor in clip._model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    shapes = {name: tuple(tensor.shape) for name, tensor in method.state().items()}
    assert shapes == {
        "text_prompts": (3, 2, 32),
        "coupling_weights": (3, 40, 32),
        "coupling_biases": (3, 40),
        "image_prompts": (3, 2, 40),
        "class_vectors": (3, 24),
    }


def test_same_seed_same_bits_and_the_state_predicts_them_without_a_text(
    clip: Backbone, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, other = (
        MaPLe(clip, depth=2, recipe=SHORT, seed=seed).fit(pictures.train, pictures.val) for seed in (1, 1, 2)
    )
    for name, tensor in one.state().items():
        assert torch.equal(tensor, two.state()[name]), name
    assert not torch.equal(one.state()["text_prompts"], other.state()["text_prompts"])
    restored = create_method("maple", clip, None, **json.loads(json.dumps(one.options())))

    def encode(*_: object) -> None:
        raise AssertionError("a text was encoded")

    monkeypatch.setattr(DeepPromptClip, "encode_tokens", encode)
    restored.load_state(CLASSES, {name: tensor.clone() for name, tensor in one.state().items()})
    table = restored.predict_proba(pixels())
    np.testing.assert_array_equal(table, one.predict_proba(pixels()))
    assert table.dtype == np.float64
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)
    alone = np.concatenate([restored.predict_proba(picture[None]) for picture in pixels()])
    np.testing.assert_allclose(alone, table, atol=1e-5)


def test_a_run_folder_brings_it_back(tiny_images: Path, clip: Backbone, tmp_path: Path) -> None:
    dataset = medvip.load_dataset(tiny_images)
    run = medvip.fit(
        dataset, clip, method="maple", depth=2, recipe=SHORT, out=tmp_path / "run", quiet=True,
        augmentation=Augmentation(views=2),
    )  # fmt: skip
    assert set(run.metrics) == {"val", "test"}
    again = medvip.load_run(tmp_path / "run", backbone=clip)
    paths = [sample.path for sample in dataset.only("test")]
    np.testing.assert_array_equal(
        again.predict_proba(paths, quiet=True), run.predict_proba(paths, quiet=True)
    )
    assert again.evaluate(dataset).to_json() == run.metrics["test"]


# What is refused


def test_it_says_where_it_works(tiny_siglip: Path, clip: Backbone) -> None:
    for backbone in (embedded_with_any_map(), load_backbone(str(tiny_siglip), device="cpu")):
        with pytest.raises(UsageError, match="is no CLIP") as caught:
            create_method("maple", backbone, None)
        assert "openai/clip-vit-base-patch16" in caught.value.fix
    with pytest.raises(UsageError, match=r"depth is 9, but the encoders of .* have 3 layers"):
        create_method("maple", clip, None)
    with pytest.raises(UsageError, match="depth is 0"):
        create_method("maple", clip, None, depth=0)
    with pytest.raises(UsageError, match="context is 0"):
        create_method("maple", clip, None, depth=1, context=0)
    method = MaPLe(clip, depth=1, init_words="so many words " * 8)
    with pytest.raises(UsageError, match="but the text encoder takes 77"):
        method._model(CLASSES)
    with pytest.raises(UsageError, match="learns from pixels, but was given a FeatureTable"):
        method.fit(made_up(CLASSES, 6, 24), made_up(CLASSES, 6, 24))
    with pytest.raises(NotFittedError):
        method.predict_proba(pixels())
    with pytest.raises(NotFittedError):
        method.state()


def test_published_settings(clip: Backbone) -> None:
    """configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml of the authors' code, and Dassl's defaults."""
    recipe = MaPLe(clip, depth=3).recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("sgd", 0.0035, 4, 5)
    assert (recipe.warmup_epochs, recipe.warmup_learning_rate, recipe.select_by) == (1, 1e-5, "last")
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)
    defaults = medvip.methods.describe_options("maple")
    assert (defaults["context"].default, defaults["depth"].default) == (2, 9)
    assert defaults["init_words"].default == "a photo of a"
