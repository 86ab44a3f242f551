"""Maps: exact ones sum to the shares, places are what transformers' own layers give, boxes are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from medvip.backbones import Backbone, load_backbone
from medvip.backbones.protocol import SpatialBackbone
from medvip.errors import UnreadableImages, UsageError
from medvip.explanation import Explanation, LogitParts, explain_pictures, parts_of
from medvip.explanation.maps import joined, share_maps
from medvip.features import FeatureTable
from medvip.images import read_picture
from medvip.methods import ViP
from medvip.symptoms import SymptomSet
from medvip.training import Recipe

CLASSES = ("blue", "green", "red")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Three pictures of different shapes, with something to see in each."""
    folder, random, paths = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3), []
    for index, (height, width) in enumerate([(224, 224), (300, 420), (260, 190)]):
        coarse = Image.fromarray(random.integers(0, 255, (5, 6, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        paths.append(folder / f"{index}.png")
    return paths


@pytest.fixture(scope="module")
def embedded() -> Backbone:
    """Real towers, a random map of texts."""
    from medvip.backbones.alignment import Alignment

    backbone = load_backbone("embedded", device="cpu")
    matrix = torch.randn(384, 320, generator=torch.Generator().manual_seed(0))
    backbone.__dict__["_alignment"] = Alignment({"text_mean": torch.zeros(384), "matrix": matrix})
    return backbone


def fitted(backbone: Backbone, symptoms: dict[str, list[str]]) -> ViP:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(16) % 3
    dim = backbone.embed_dim
    vectors = torch.randn(3, dim, generator=random)[labels] + torch.randn(16, dim, generator=random)
    names = tuple(f"{row}.png" for row in range(16))
    train = FeatureTable(vectors[:, None], labels, CLASSES, names, names, names, "none")
    recipe = Recipe(epochs=2, learning_rate=0.02, warmup_epochs=0, batch_size=8)
    model = ViP(backbone, SymptomSet.from_mapping(symptoms), recipe=recipe)
    model.fit(train, train)
    return model


@pytest.fixture(scope="module")
def model(embedded, tiny_symptoms) -> ViP:
    return fitted(embedded, tiny_symptoms)


@pytest.fixture(scope="module")
def explained(model, pictures) -> list[Explanation]:
    return explain_pictures(pictures, model, maps=True, grids=True, quiet=True)


# ------------------------------------------------------------------ exact maps


def worst_gap(explained: list[Explanation]) -> float:
    """How far any map's sum is from its share, and any class's maps from its logit."""
    gaps = []
    for one in explained:
        assert one.maps is not None
        for c, part in enumerate(one.classes):
            gaps.append(abs(one.maps.class_vector[c].sum() - part.class_vector))
            gaps.append(abs(one.maps.classes[c].sum() - part.logit))
            gaps += [
                abs(one.maps.symptoms[c, i].sum() - share.share) for i, share in enumerate(part.symptoms)
            ]
    return max(gaps)


def test_each_map_sums_to_its_share_and_all_of_a_class_to_its_logit(explained) -> None:
    assert all(one.maps.kind == "share" and one.maps.exact for one in explained)
    assert worst_gap(explained) < 1e-5
    assert all(np.abs(one.maps.symptoms).max() > 1e-3 for one in explained), "not by being zero"


def drop_class_vector(parts: LogitParts) -> LogitParts:
    return replace(parts, class_vector=torch.zeros_like(parts.class_vector))


def drop_symptom(parts: LogitParts) -> LogitParts:
    return replace(parts, symptoms=parts.symptoms * torch.tensor([0.0, 1.0, 1.0])[None, :, None].double())


def drop_attention(parts: LogitParts) -> LogitParts:
    weights = torch.where(parts.present, parts.attention, 1.0)
    return replace(parts, symptoms=parts.symptoms / weights[..., None])


def drop_length_of_class(parts: LogitParts) -> LogitParts:
    return replace(parts, symptoms=parts.symptoms * parts.classes.norm(dim=-1)[:, None, None] / 7)


def vector(grids: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([grid.mean((1, 2)) for grid in grids], 1)


def length_of_each_place(grids: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """As if every place were divided by its own length."""
    length = vector(grids).norm(dim=-1)[:, None, None, None]
    return [grid / grid.norm(dim=-1, keepdim=True) * length for grid in grids]


def drop_a_place(grids: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """A place of one grid is set to nothing, while the length stays that of the whole image."""
    changed = [grid.clone() for grid in grids]
    changed[-1][:, 3, 3] = 0
    factor = vector(tuple(changed)).norm(dim=-1) / vector(grids).norm(dim=-1)
    return [grid * factor[:, None, None, None] for grid in changed]


def drop_a_stage(grids: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """A stage says nothing, while the length stays that of the whole image."""
    changed = [grid.clone() for grid in grids]
    changed[3][:] = 0
    factor = vector(tuple(changed)).norm(dim=-1) / vector(grids).norm(dim=-1)
    return [grid * factor[:, None, None, None] for grid in changed]


@pytest.mark.parametrize(
    "mutate",
    [drop_class_vector, drop_symptom, drop_attention, drop_length_of_class],
    ids=lambda f: f.__name__,
)
def test_the_check_notices_a_term_that_is_dropped_from_the_parts(
    mutate, model, pictures, explained, monkeypatch
) -> None:
    """The maps come from spoiled parts, the shares do not."""
    import medvip.explanation.explaining as module

    monkeypatch.setattr(module, "share_maps", lambda places, parts: share_maps(places, mutate(parts)))
    assert worst_gap(explain_pictures(pictures, model, maps=True, quiet=True)) > 1e-3


@pytest.mark.parametrize(
    "mutate", [length_of_each_place, drop_a_place, drop_a_stage], ids=lambda f: f.__name__
)
def test_the_check_notices_a_term_that_is_dropped_from_the_places(
    mutate, model, pictures, explained, monkeypatch
) -> None:
    import medvip.explanation.explaining as module

    monkeypatch.setattr(module, "share_maps", lambda places, parts: share_maps(mutate(places), parts))
    assert worst_gap(explain_pictures(pictures, model, maps=True, quiet=True)) > 1e-3


def test_a_map_without_the_subtracted_centre_would_not_sum(model, embedded, pictures, explained) -> None:
    pixels = torch.stack([embedded.preprocess(read_picture(str(path))) for path in pictures])
    space = embedded._image_tower.space
    *stages, head = embedded.encode_places(pixels)
    spoiled = share_maps([*stages, head + space.head_centre @ space.head_directions], parts_of(model))
    sums = sum(of_symptoms[:, 1].sum((-1, -2)) for of_symptoms, _ in spoiled).numpy()
    shares = np.array([[share.share for share in one.classes[1].symptoms] for one in explained])
    assert np.abs(sums - shares).max() > 1e-3


def test_each_grid_has_maps_of_its_own_whose_sums_are_the_joined_ones(explained) -> None:
    for one in explained:
        assert one.maps is not None
        assert [grid.class_vector.shape[1:] for grid in one.maps.grids] == [
            (side, side) for side in (112, 56, 28, 14, 14, 7, 7)
        ]
        assert one.maps.class_vector.shape[1:] == (28, 28)
        for name in ("symptoms", "class_vector"):
            sums = sum(getattr(grid, name).sum((-1, -2)) for grid in one.maps.grids)
            np.testing.assert_allclose(getattr(one.maps, name).sum((-1, -2)), sums, atol=1e-8)
        finest = np.abs(one.maps.grids[0].class_vector)
        assert finest.max() > 0, "the class vectors see with the first stage, too"


def test_grids_come_on_demand(explained, model, pictures) -> None:
    (without,) = explain_pictures(pictures[:1], model, maps=True, quiet=True)
    assert without.maps is not None
    assert without.maps.grids == ()
    assert "grids" not in without.to_json()["maps"]
    one = explained[0]
    grids = one.to_json()["maps"]["grids"]
    assert [len(grid["red"]["class_vector"]) for grid in grids] == [112, 56, 28, 14, 14, 7, 7]
    total = sum(np.sum(grid["red"]["class_vector"]) for grid in grids)
    (red,) = (part for part in one.classes if part.class_name == "red")
    assert total == pytest.approx(red.class_vector, abs=1e-5)


@settings(max_examples=40, deadline=None)
@for_all(
    sides=st.lists(st.sampled_from([7, 14, 28, 56, 112]), min_size=1, max_size=4),
    seed=st.integers(0, 2**20),
)
def test_joined_maps_keep_their_sums_and_their_places(sides: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, side, side, generator=random, dtype=torch.double) for side in sides]
    found = joined(maps)
    expected = sum(one.sum((-1, -2)) for one in maps)
    torch.testing.assert_close(found.sum((-1, -2)), expected, atol=1e-9, rtol=1e-9)
    if len(sides) > 1:
        by_loop = sum(by_hand(one[0].numpy()) for one in maps)
        np.testing.assert_allclose(found[0].numpy(), by_loop, atol=1e-9)


def by_hand(numbers: np.ndarray) -> np.ndarray:
    """On 28 x 28 places: blocks added up, or weights of the two nearest middles along each side."""
    side = len(numbers)
    if side >= 28:
        block = side // 28
        return numbers.reshape(28, block, 28, block).sum((1, 3))
    places = (np.arange(28) + 0.5) * side / 28 - 0.5
    weights = np.array([np.interp(np.clip(places, 0, side - 1), range(side), row) for row in np.eye(side)])
    return weights.T @ numbers @ weights * (side / 28) ** 2


def test_shares_with_maps_are_those_without_and_those_of_the_method(model, pictures, explained) -> None:
    plain = explain_pictures(pictures, model, quiet=True)
    for with_maps, without in zip(explained, plain, strict=True):
        assert without.maps is None
        assert with_maps.prediction == without.prediction
        assert with_maps.probabilities == pytest.approx(without.probabilities, abs=1e-5)
        for one, other in zip(with_maps.classes, without.classes, strict=True):
            assert one.logit == pytest.approx(other.logit, abs=1e-4)


@pytest.mark.parametrize("by_onnx_runtime", [True, False])
def test_the_mean_over_places_is_the_images_vector(pictures, by_onnx_runtime: bool) -> None:
    backbone = load_backbone("embedded", device="cpu")
    backbone.uses_onnx_runtime = by_onnx_runtime
    pixels = torch.stack([backbone.preprocess(read_picture(str(path))) for path in pictures])
    places = backbone.encode_places(pixels)
    torch.testing.assert_close(vector(places), backbone.encode_images(pixels), atol=1e-4, rtol=1e-4)


def test_places_are_the_feature_map_of_the_package_itself(embedded, pictures) -> None:
    """An independent computation: the network as PyPI ships it, normalisations and all."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(embedded._image_weights, weights_only=True))
    pixels = torch.stack([embedded.preprocess(read_picture(str(path))) for path in pictures])
    with torch.no_grad():
        expected = network.extract_features(pixels).permute(0, 2, 3, 1)
    given = embedded.encode_places(pixels)[-1]
    assert expected.std() > 0.1
    space = embedded._image_tower.space
    rooted = expected / expected.mean((1, 2), keepdim=True).sqrt().clamp_min(1e-12)
    torch.testing.assert_close(
        given, (rooted - space.head_centre) @ space.head_directions, atol=2e-3, rtol=1e-3
    )


def test_a_picture_turned_over_turns_rows_not_columns(embedded) -> None:
    """Something only at the top is seen in the top rows."""
    picture = np.full((224, 224, 3), 127, np.uint8)
    blank = embedded.encode_places(embedded.preprocess(Image.fromarray(picture))[None])[-1]
    picture[:60, 80:140] = np.random.default_rng(0).integers(0, 255, (60, 60, 3))
    marked = embedded.encode_places(embedded.preprocess(Image.fromarray(picture))[None])[-1]
    change = (marked - blank).norm(dim=-1)[0]
    row, column = divmod(int(change.argmax()), 7)
    assert row <= 1
    assert 2 <= column <= 4


# ------------------------------------------------------------------ patch similarity


@pytest.fixture(scope="module", params=["clip", "siglip"])
def tower(request, tiny_clip, tiny_siglip) -> tuple[str, Path]:
    return request.param, tiny_clip if request.param == "clip" else tiny_siglip


def test_patches_are_what_transformers_own_layers_give(tower, pictures) -> None:
    """Written out with transformers' modules, one patch at a time."""
    import transformers

    family, folder = tower
    backbone = load_backbone(str(folder), device="cpu")
    pixels = torch.stack([backbone.preprocess(read_picture(str(path))) for path in pictures])
    (given,) = backbone.encode_places(pixels)
    assert given.shape == (3, 3, 3, backbone.embed_dim)
    kind = transformers.CLIPModel if family == "clip" else transformers.SiglipModel
    whole = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        states = whole.vision_model(pixel_values=pixels).last_hidden_state
        for image in range(3):
            for place in range(9):
                if family == "clip":
                    token = states[image, 1 + place]
                    expected = whole.visual_projection(whole.vision_model.post_layernorm(token))
                else:
                    expected = whole.vision_model.head(states[image : image + 1, place : place + 1])[0]
                torch.testing.assert_close(
                    given[image, place // 3, place % 3], expected, atol=1e-4, rtol=1e-4
                )


def test_patch_similarities_are_cosines_and_say_that_they_do_not_add_up(
    tower, pictures, tiny_symptoms
) -> None:
    backbone = load_backbone(str(tower[1]), device="cpu")
    assert isinstance(backbone, SpatialBackbone)
    assert not backbone.mean_of_places_is_image
    model = fitted(backbone, tiny_symptoms)
    explained = explain_pictures(pictures, model, maps=True, quiet=True)
    vectors = model.state()["symptom_vectors"].double().numpy()
    for path, one in zip(pictures, explained, strict=True):
        assert (one.maps.kind, one.maps.exact) == ("patch similarity", False)
        ((places,),) = backbone.encode_places(backbone.preprocess(read_picture(str(path)))[None])
        patch, text = places[2, 1].double().numpy(), vectors[1, 2]
        cosine = patch @ text / np.linalg.norm(patch) / np.linalg.norm(text)
        assert one.maps.symptoms[1, 2, 2, 1] == pytest.approx(cosine, abs=1e-5)
        assert "does not sum" in one.to_json()["maps"]["what"]
        with pytest.raises(ValueError, match="do not add up"):
            _ = one.maps.classes
        for part in one.classes:  # the shares stay exact
            assert part.class_vector + part.of_symptoms == pytest.approx(part.logit, abs=1e-5)
    assert worst_gap_of_similarities(explained) > 1e-2, "they are no shares"


def worst_gap_of_similarities(explained: list[Explanation]) -> float:
    return max(
        abs(one.maps.symptoms[c, i].sum() - share.share)
        for one in explained
        for c, part in enumerate(one.classes)
        for i, share in enumerate(part.symptoms)
    )


# ------------------------------------------------------------------ where the box is


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (300, 900), (100, 80), (31, 30)])
@pytest.mark.parametrize("which", ["embedded", "clip", "siglip"])
def test_the_box_is_where_the_pixels_come_from(which, size, tiny_clip, tiny_siglip) -> None:
    """A picture whose red rises to the right and whose green rises downwards tells where it was cut."""
    backbone = load_backbone(
        {"embedded": "embedded", "clip": str(tiny_clip), "siglip": str(tiny_siglip)}[which]
    )
    width, height = size
    ramp = np.zeros((height, width, 3))
    ramp[..., 0] = ((np.arange(width) + 0.5) / width * 255)[None, :]
    ramp[..., 1] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    pixels = backbone.preprocess(Image.fromarray(ramp.round().astype(np.uint8))).double().numpy()
    low = backbone.preprocess(Image.new("RGB", size, (0, 0, 0))).double().numpy()[:, :1, :1]
    high = backbone.preprocess(Image.new("RGB", size, (255, 255, 255))).double().numpy()[:, :1, :1]
    across, down = ((pixels - low) / (high - low))[:2]
    left, top, right, bottom = backbone.seen_box(width, height)
    side = backbone.image_size
    inner = slice(side // 8, side - side // 8)  # resampling bends the ramp at the rim
    expected = left + (np.arange(side) + 0.5) / side * (right - left)
    np.testing.assert_allclose((across.mean(0) * width)[inner], expected[inner], atol=0.02 * width + 0.6)
    expected = top + (np.arange(side) + 0.5) / side * (bottom - top)
    np.testing.assert_allclose((down.mean(1) * height)[inner], expected[inner], atol=0.02 * height + 0.6)


# ------------------------------------------------------------------ at the edges


def test_maps_as_json_are_by_name(explained) -> None:
    read = json.loads(json.dumps([one.to_json() for one in explained]))
    for entry, one in zip(read, explained, strict=True):
        assert entry["maps"]["exact"] is True
        assert set(entry["maps"]["classes"]) == set(CLASSES)
        for part in entry["classes"]:
            maps = entry["maps"]["classes"][part["class_name"]]
            assert [m["symptom"] for m in maps["symptoms"]] == [s["symptom"] for s in part["symptoms"]]
            for made, share in zip(maps["symptoms"], part["symptoms"], strict=True):
                assert np.sum(made["map"]) == pytest.approx(share["share"], abs=1e-5)
        assert entry["maps"]["picture_size"] == list(read_picture(one.path).size)


def test_many_pictures_come_in_their_order_and_bad_ones_are_all_named(model, pictures, tmp_path) -> None:
    paths = [pictures[index % 3] for index in range(40)]
    found = explain_pictures(paths, model, maps=True, quiet=True)
    assert [one.path for one in found] == [str(path) for path in paths]
    assert found[39].classes[0].logit == pytest.approx(found[0].classes[0].logit, abs=1e-4)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no picture")
    with pytest.raises(UnreadableImages) as caught:
        explain_pictures([*pictures, tmp_path / "a.png", tmp_path / "b.png"], model, maps=True, quiet=True)
    assert len(caught.value.reasons) == 2
    assert explain_pictures([], model, maps=True, quiet=True) == []
    assert explain_pictures([], model, quiet=True) == []


def test_a_backbone_that_cannot_say_where(model, pictures, monkeypatch) -> None:
    monkeypatch.delattr(type(model.backbone), "encode_places")
    with pytest.raises(UsageError, match="single places"):
        explain_pictures(pictures, model, maps=True, quiet=True)
    assert explain_pictures(pictures, model, quiet=True)
