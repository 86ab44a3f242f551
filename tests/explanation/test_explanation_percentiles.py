"""Percentiles among training images: against counting, and without any image's own number."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from ready_runs import change_config, change_tensors, clip_fit, clip_run, copy_of, fit_quickly

import medvip
from medvip.errors import RunError
from medvip.explanation import SimilarityQuantiles, parts_of, similarity_quantiles


@pytest.mark.parametrize("images", [11, 30, 101, 640])
def test_percentiles_are_what_counting_gives_to_one_step(images: int) -> None:
    random = torch.Generator().manual_seed(images)
    training = torch.randn(images, 2, 3, generator=random) * 0.1
    seen = similarity_quantiles(training, torch.ones(2, 3).bool())
    asked = torch.randn(50, 2, 3, generator=random) * 0.1
    found = seen.percentiles(asked)
    counted = 100 * (training[None] < asked[:, None]).double().mean(1).numpy()
    step = 100 * (seen.levels[1] - seen.levels[0] if len(seen.levels) > 1 else 0.5)
    assert np.abs(found - counted).max() <= step + 100 / images + 1e-9
    assert found.min() >= 100 * seen.levels[0] - 1e-9
    assert found.max() <= 100 * seen.levels[-1] + 1e-9


def test_few_images_leave_nothing_and_none_leaves_its_extremes() -> None:
    assert similarity_quantiles(torch.randn(10, 1, 1), torch.ones(1, 1).bool()) is None
    for images in (11, 12, 57, 1000):
        training = torch.randn(images, 1, 1, generator=torch.Generator().manual_seed(0))
        seen = similarity_quantiles(training, torch.ones(1, 1).bool())
        ordered = training.ravel().sort().values
        for below, above in zip(seen.values[0, 0], seen.values[0, 0, 1:], strict=False):
            assert ((ordered >= below) & (ordered <= above)).sum() >= 5
        assert (ordered < seen.values[0, 0, 0]).sum() >= 5
        assert (ordered > seen.values[0, 0, -1]).sum() >= 5
        assert seen.values.shape[-1] <= 99


def test_a_class_with_fewer_symptoms_keeps_zeros() -> None:
    present = torch.tensor([[True, True], [True, False]])
    seen = similarity_quantiles(torch.randn(40, 2, 2), present)
    assert (seen.values[1, 1] == 0).all()
    assert (seen.values[present] != 0).any(-1).all()


def test_a_run_keeps_them_and_gives_them_back(clip_fit, clip_run, tiny_images, tiny_clip) -> None:
    """Against the cosines of the training pictures, computed here from the tensors alone."""
    loaded = medvip.load_run(clip_run)
    assert torch.equal(loaded.seen.values, clip_fit.seen.values)
    train = medvip.compute_features(medvip.load_dataset(tiny_images), loaded.backbone, quiet=True).train
    vectors = load_file(clip_run / "prompts.safetensors")["symptom_vectors"].double().numpy()
    images = train.plain.double().numpy()
    cosines = images @ vectors[0, 0] / np.linalg.norm(images, axis=1) / np.linalg.norm(vectors[0, 0])
    np.testing.assert_allclose(
        loaded.seen.values[0, 0].numpy(), np.quantile(cosines, [0.25, 0.5, 0.75]), atol=1e-6
    )
    (one,) = loaded.explain([tiny_images / "red" / "0.png"], quiet=True)
    share = one.classes[0].symptoms[0]
    assert share.percentile == pytest.approx(
        np.interp(share.similarity, np.quantile(cosines, [0.25, 0.5, 0.75]), [25, 50, 75]), abs=1e-3
    )
    assert share.percentile == one.to_json()["classes"][0]["symptoms"][0]["percentile"]


def test_the_methods_own_tensors_are_not_touched(clip_fit, clip_run) -> None:
    assert set(medvip.load_run(clip_run).method.state()) == set(clip_fit.method.state())


def test_a_run_without_them_loads_and_gives_none(clip_run, tiny_images, tmp_path) -> None:
    from hashlib import sha256

    from safetensors.torch import save_file

    old = copy_of(clip_run, tmp_path / "old")
    tensors = load_file(old / "prompts.safetensors")
    del tensors["training_similarity_quantiles"]
    save_file(tensors, old / "prompts.safetensors")
    change_config(old, prompts_sha256=sha256((old / "prompts.safetensors").read_bytes()).hexdigest())
    run = medvip.load_run(old)
    assert run.seen is None
    (one,) = run.explain([tiny_images / "red" / "0.png"], quiet=True)
    assert {share.percentile for part in one.classes for share in part.symptoms} == {None}
    assert medvip.load_run(run.save(tmp_path / "again")).seen is None


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(3, 2, 5),
        torch.zeros(2, 3, 5),
        torch.zeros(3, 3, 0),
        torch.zeros(3, 3),
        torch.full((3, 3, 5), float("nan")),
        torch.full((3, 3, 5), 7.0),
        torch.zeros(3, 3, 5, dtype=torch.int32),
    ],
)
def test_what_can_be_no_quantiles_is_refused(clip_run, tmp_path, bad) -> None:
    run = copy_of(clip_run, tmp_path / "run")
    change_tensors(run, training_similarity_quantiles=bad)
    with pytest.raises(RunError, match="does not fit the symptoms"):
        medvip.load_run(run)


def test_methods_that_cannot_be_explained_keep_none(tiny_clip, tiny_images, tmp_path) -> None:
    run = medvip.fit(
        medvip.load_dataset(tiny_images),
        medvip.load_backbone(str(tiny_clip)),
        method="nearest-class-mean",
        quiet=True,
        out=tmp_path / "run",
    )
    assert run.seen is None
    assert "training_similarity_quantiles" not in load_file(tmp_path / "run" / "prompts.safetensors")
