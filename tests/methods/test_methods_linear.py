"""Linear methods against scikit-learn, closed forms and literal loops on the same vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from small_models import made_up, texts_by_transformers

from medvip.backbones import Backbone, load_backbone
from medvip.errors import NotFittedError, TrainingError, UsageError
from medvip.features import FeatureTable
from medvip.methods import GDA, LinearProbe, LPPlusPlus, Majority, NearestClassMean, SSText
from medvip.methods.gda import ALPHAS, ridge_precision
from medvip.methods.lp_plus_plus import descent, largest_eigenvalue
from medvip.symptoms import SymptomSet

CLASSES = ("cold_water", "ink", "red-fox")


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Backbone:
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture(scope="module")
def names(clip: Backbone, tiny_clip: Path) -> np.ndarray:
    """Text vectors of the classes' names, by transformers alone, at length 1."""
    texts = ["a photo of a cold water.", "a photo of a ink.", "a photo of a red fox."]
    vectors = texts_by_transformers("clip", tiny_clip, clip, texts, torch.zeros(0, 32)).astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def noisy(
    images: int, dim: int, seed: int, shares: tuple[int, ...] = (1, 1, 1), views: int = 1
) -> FeatureTable:
    """Overlapping classes of unequal sizes, vectors of any length."""
    table = made_up(CLASSES, images * 3, dim, views=views, seed=seed)
    kept = [i for i, label in enumerate(table.labels.tolist()) if (i // 3) % max(shares) < shares[label]]
    table = table.taken(np.array(kept))
    random = torch.Generator().manual_seed(seed + 100)
    table.vectors.add_(1.5 * torch.randn(table.vectors.shape, generator=random))
    table.vectors.mul_(5 * torch.rand(len(table), 1, 1, generator=random) + 0.5)
    return table


def of_length_1(vectors: torch.Tensor) -> np.ndarray:
    found = vectors.numpy().astype(float)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_majority(clip: Backbone) -> None:
    train = noisy(12, 24, seed=0, shares=(4, 2, 1))
    counts = [train.labels.tolist().count(label) for label in range(3)]
    model = Majority(clip).fit(train, noisy(3, 24, seed=1))
    np.testing.assert_allclose(
        model.predict_proba(torch.randn(2, 24)), [[c / sum(counts) for c in counts]] * 2, atol=1e-15
    )
    with pytest.raises(NotFittedError, match="call fit first"):
        Majority(clip).predict_proba(torch.randn(2, 24))
    with pytest.raises(TrainingError, match="no training image"):
        Majority(clip).fit(train.taken(np.zeros(0, dtype=int)), train)


def test_a_class_without_training_images_is_named(clip: Backbone) -> None:
    train = noisy(6, 24, seed=0)
    only_two = train.taken(np.flatnonzero(train.labels.numpy() != 1))
    for method in (NearestClassMean, LinearProbe, GDA, LPPlusPlus, SSText):
        with pytest.raises(TrainingError, match="no training image of: ink"):
            method(clip).fit(only_two, train)
    assert Majority(clip).fit(only_two, train).predict_proba(torch.randn(1, 24))[0, 1] == 0


def test_nearest_class_mean_by_loop(clip: Backbone) -> None:
    train, images = noisy(8, 24, seed=0, shares=(3, 2, 1)), noisy(5, 24, seed=1)
    model = NearestClassMean(clip).fit(train, images)
    expected = []
    for f in of_length_1(images.plain):
        logits = []
        for label in range(3):
            mean = sum(
                v
                for v, own in zip(of_length_1(train.plain), train.labels.tolist(), strict=True)
                if own == label
            )
            logits.append(math.exp(clip.logit_scale) * (f @ mean) / np.linalg.norm(mean))
        expected.append(softmax(logits))
    np.testing.assert_allclose(model.predict_proba(images.plain), expected, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_probe_is_scikit_learns_regression_at_the_c_of_the_sweep(clip: Backbone, classes: int) -> None:
    train, validation = noisy(20, 24, seed=0, shares=(3, 2, 2)), noisy(9, 24, seed=1)
    if classes == 2:
        train, validation = (
            FeatureTable(
                table.vectors[kept],
                table.labels[kept],
                CLASSES[:2],
                *[tuple(map(str, range(len(kept))))] * 3,
                "none",
            )
            for table in (train, validation)
            for kept in [torch.where(table.labels < 2)[0]]
        )

    def reference(C: float):
        model = make_pipeline(Normalizer(), LogisticRegression(C=C, max_iter=1000))
        return model.fit(train.plain.double().numpy(), train.labels.numpy())

    def figures(C: float) -> tuple[float, float, float]:
        said = reference(C).predict_proba(validation.plain.double().numpy())
        found, target = said.argmax(1), validation.labels.numpy()
        f1 = f1_score(target, found, labels=range(classes), average="macro", zero_division=0)
        return float(f1), float((found == target).mean()), -log_loss(target, said, labels=range(classes))

    model = LinearProbe(clip).fit(train, validation)
    tried = {C: figures(C) for C in (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)}
    best = max(tried, key=tried.__getitem__)
    for decades in (1, 1 / 2, 1 / 4, 1 / 8):
        for C in (best * 10**-decades, best * 10**decades):
            if 1e-6 <= C <= 1e6:
                tried[C] = figures(C)
        best = max(tried, key=tried.__getitem__)
    assert model.history[-1]["C"] == pytest.approx(best)
    assert model.history[-1]["val_macro_f1"] == pytest.approx(tried[best][0])
    assert model.history[-1]["val_loss"] == pytest.approx(-tried[best][2], rel=1e-4)
    images = noisy(7, 24, seed=2).plain
    expected = reference(best).predict_proba(images.double().numpy())
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-6)
    assert model.predict_proba(images).shape[1] == classes


def test_linear_probe_chooses_by_scikit_learns_grouped_folds_without_validation(clip: Backbone) -> None:
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    train = noisy(20, 24, seed=3)
    groups = np.array([f"patient {i // 2}" for i in range(len(train))])
    train = FeatureTable(
        train.vectors, train.labels, train.classes, train.paths, tuple(groups), train.contents, "none"
    )
    model = LinearProbe(clip).fit(train, train.taken(np.zeros(0, dtype=int)))
    chosen = model.history[-1]
    regression = make_pipeline(Normalizer(), LogisticRegression(C=chosen["C"], max_iter=1000))
    y = train.labels.numpy()
    found = cross_val_predict(
        regression, train.plain.double().numpy(), y, groups=groups, cv=StratifiedGroupKFold(5)
    )
    assert chosen["cv_macro_f1"] == pytest.approx(f1_score(y, found, average="macro"))
    assert chosen["cv_accuracy"] == pytest.approx((found == y).mean())


def test_linear_probe_has_a_stated_c_where_nothing_can_be_chosen_by(clip: Backbone) -> None:
    train = noisy(6, 24, seed=0).taken(np.arange(3))  # one image a class
    assert sorted(train.labels.tolist()) == [0, 1, 2]
    model = LinearProbe(clip).fit(train, train.taken(np.zeros(0, dtype=int)))
    assert model.history == []
    reference = make_pipeline(Normalizer(), LogisticRegression(C=0.316, max_iter=1000))
    reference.fit(train.plain.double().numpy(), train.labels.numpy())
    images = noisy(4, 24, seed=1).plain
    np.testing.assert_allclose(
        model.predict_proba(images), reference.predict_proba(images.double().numpy()), atol=1e-6
    )


def test_ridge_precision_is_the_estimators_formula() -> None:
    random = np.random.default_rng(0)
    centred = random.normal(size=(7, 12))
    centred -= centred.mean(0)
    S = np.cov(centred.T)
    expected = 12 * np.linalg.pinv(6 * S + np.trace(S) * np.eye(12))
    np.testing.assert_allclose(
        ridge_precision(torch.tensor(centred)).numpy(), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("views", [1, 3])
def test_gda_by_loop_with_the_best_alpha_of_the_published_list(
    clip: Backbone, names: np.ndarray, views: int
) -> None:
    train, validation = noisy(10, 24, seed=0, shares=(3, 2, 2), views=views), noisy(9, 24, seed=1)
    model = GDA(clip).fit(train, validation)
    vectors = of_length_1(train.vectors).reshape(-1, 24)
    labels = np.repeat(train.labels.numpy(), views)
    mu = np.stack([vectors[labels == label].mean(0) for label in range(3)])
    S = np.cov((vectors - mu[labels]).T)
    P = 24 * np.linalg.inv((len(vectors) - 1) * S + np.trace(S) * np.eye(24))

    def logits(images: torch.Tensor, alpha: float) -> np.ndarray:
        found = []
        for f in of_length_1(images):
            zero_shot = [math.exp(clip.logit_scale) * (f @ t) for t in names]
            visual = [m @ P @ f - m @ P @ m / 2 for m in mu]
            found.append([z + alpha * v for z, v in zip(zero_shot, visual, strict=True)])
        return np.array(found)

    def key(alpha: float):
        predicted = logits(validation.plain, alpha).argmax(1)
        f1 = f1_score(validation.labels, predicted, labels=range(3), average="macro", zero_division=0)
        return -f1, -(predicted == validation.labels.numpy()).mean(), alpha

    best = min((0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0), key=key)
    assert model.history[-1]["alpha"] == pytest.approx(best)
    images = noisy(6, 24, seed=2).plain
    np.testing.assert_allclose(model.predict_proba(images), softmax(logits(images, best), 1), atol=1e-5)


def test_gda_with_many_images_decides_as_scikit_learns_discriminant_analysis(
    clip: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ridge vanishes against the covariance, and zero-shot against a huge alpha."""
    monkeypatch.setattr("medvip.methods.gda.ALPHAS", (1e9,))
    train = noisy(3000, 24, seed=0)
    model = GDA(clip).fit(train, noisy(9, 24, seed=1))
    images = noisy(300, 24, seed=2).plain
    reference = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3)
    reference.fit(of_length_1(train.plain), train.labels.numpy())
    scores = reference.decision_function(of_length_1(images))
    clear = np.sort(scores, 1)[:, -1] - np.sort(scores, 1)[:, -2] > 0.05
    found = model.predict_proba(images).argmax(1)
    assert clear.mean() > 0.8
    assert (found == scores.argmax(1))[clear].all()
    assert (found == 0).any()
    assert (found == 1).any()


def test_gda_with_one_image_a_class_is_zero_shot(clip: Backbone, names: np.ndarray) -> None:
    train = noisy(6, 24, seed=0).taken(np.arange(3))
    images = noisy(5, 24, seed=1).plain
    model = GDA(clip).fit(train, train.taken(np.zeros(0, dtype=int)))
    expected = softmax(math.exp(clip.logit_scale) * of_length_1(images) @ names.T, 1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-6)
    np.testing.assert_allclose(ALPHAS, [1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100])


def test_lp_plus_plus_follows_autograd_and_torchs_own_sgd(names: np.ndarray) -> None:
    """The published loop, with alpha's gradient reset after every iteration."""
    train = noisy(10, 24, seed=0, shares=(3, 2, 1))
    F, Y, T = torch.tensor(of_length_1(train.plain)), train.labels, torch.tensor(names)
    own = [float(np.mean([F[i] @ T[k] for i in range(len(F)) if Y[i] == k])) for k in range(3)]
    layer = torch.nn.Linear(24, 3).double()
    with torch.no_grad():
        layer.bias.zero_()
        for k in range(3):
            layer.weight[k] = sum(F[i] for i in range(len(F)) if Y[i] == k)
    alpha = torch.full((3,), 250 * float(np.mean(own)), dtype=torch.float64, requires_grad=True)
    eigenvalue = np.linalg.svd(F.numpy(), compute_uv=False)[0] ** 2
    optimizer = torch.optim.SGD(layer.parameters(), lr=4 * len(F) / eigenvalue, momentum=0.9)
    alpha_step = len(F) / (4 * max(float(sum((f @ t) ** 2 for f in F)) for t in T))
    for iteration, (weights, bias) in zip(range(1, 42), descent(F, Y, T), strict=False):
        optimizer.zero_grad()
        alpha.grad = None
        torch.nn.functional.cross_entropy(layer(F) + alpha * (F @ T.T), Y).backward()
        optimizer.step()
        if iteration % 10 == 0:
            with torch.no_grad():
                alpha -= alpha_step * alpha.grad
        np.testing.assert_allclose(
            weights, (layer.weight + alpha[:, None] * T).detach(), rtol=1e-8, atol=1e-8
        )
        np.testing.assert_allclose(bias, layer.bias.detach(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_largest_eigenvalue(shape: tuple[int, int]) -> None:
    images = torch.tensor(np.random.default_rng(0).normal(size=shape))
    expected = np.linalg.eigvalsh(images.numpy().T @ images.numpy())[-1]
    assert float(largest_eigenvalue(images)) == pytest.approx(expected)


def test_lp_plus_plus_keeps_the_iteration_with_the_best_validation_score(
    clip: Backbone, names: np.ndarray
) -> None:
    train, validation = noisy(10, 24, seed=0), noisy(9, 24, seed=1)
    model = LPPlusPlus(clip).fit(train, validation)
    F, T = torch.tensor(of_length_1(train.plain)), torch.tensor(names)
    V, y = torch.tensor(of_length_1(validation.plain)), validation.labels.numpy()
    best = None
    for iteration, (weights, bias) in zip(range(1, 301), descent(F, train.labels, T), strict=False):
        said = softmax((V @ weights.T + bias).numpy(), 1)
        predicted = said.argmax(1)
        f1 = f1_score(y, predicted, labels=range(3), average="macro", zero_division=0)
        figures = round(float(f1), 12), float((predicted == y).mean()), -log_loss(y, said, labels=range(3))
        if best is None or figures > best[0]:
            best = figures, iteration, weights, bias
    assert best is not None
    assert model.history[-1]["iterations"] == best[1]
    images = noisy(6, 24, seed=2).plain
    expected = softmax((torch.tensor(of_length_1(images)) @ best[2].T + best[3]).numpy(), 1)
    np.testing.assert_allclose(model.predict_proba(images), expected, atol=1e-5)


@pytest.mark.parametrize("images", [30, 1500])
def test_ss_text_minimises_its_objective(clip: Backbone, names: np.ndarray, images: int) -> None:
    """More than 1,000 images reach the floor of lambda."""
    train = noisy(images // 3, 24, seed=0).taken(np.arange(images))
    F, y = of_length_1(train.plain), train.labels.numpy()
    scale, strength = math.exp(clip.logit_scale), max(1 / images, 1e-3)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(3, 24)
        pull = np.stack([F[y == k].sum(0) for k in range(3)]) * scale / images
        value = -(pull * w).sum() + strength / 2 * ((w - names) ** 2).sum()
        return value, (-pull + strength * (w - names)).ravel()

    w = minimize(objective, np.zeros(72), jac=True, method="BFGS", options={"gtol": 1e-10}).x.reshape(3, 24)
    test = noisy(6, 24, seed=2).plain
    logits = scale * of_length_1(test) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    model = SSText(clip).fit(train, noisy(3, 24, seed=1))
    np.testing.assert_allclose(model.predict_proba(test), softmax(logits, 1), atol=1e-6)


def test_text_from_symptoms_is_their_mean_direction(
    clip: Backbone, tiny_clip: Path, tiny_symptoms: dict[str, list[str]]
) -> None:
    from medvip.methods.class_texts import class_texts

    classes = ("blue", "green", "red")
    expected = []
    for label in classes:
        found = texts_by_transformers("clip", tiny_clip, clip, tiny_symptoms[label], torch.zeros(0, 32))
        mean = np.mean([v / np.linalg.norm(v) for v in found.astype(float)], axis=0)
        expected.append(mean / np.linalg.norm(mean))
    symptoms = SymptomSet.from_mapping(dict(reversed(tiny_symptoms.items())))
    np.testing.assert_allclose(class_texts(clip, symptoms, classes, "symptoms"), expected, atol=1e-5)
    assert not np.allclose(class_texts(clip, symptoms, classes, "names"), expected, atol=1e-2)
    plain = SymptomSet.from_mapping(tiny_symptoms, names={"red": "blood moon"})
    one = texts_by_transformers("clip", tiny_clip, clip, ["a photo of a blood moon."], torch.zeros(0, 32))
    named = class_texts(clip, plain, classes, "names")[2]
    np.testing.assert_allclose(named, one[0] / np.linalg.norm(one[0]), atol=1e-5)


def test_text_that_cannot_be_had_is_refused(clip: Backbone) -> None:
    with pytest.raises(UsageError, match=r"no symptoms are given.*--symptoms"):
        GDA(clip, None, text="symptoms")


@pytest.mark.parametrize("method", [NearestClassMean, LinearProbe, GDA, LPPlusPlus, SSText])
def test_views_are_learned_from_like_pictures_of_their_own(clip: Backbone, method: type) -> None:
    train, validation = noisy(6, 24, seed=0, views=3), noisy(9, 24, seed=1)
    count = 3 * len(train)
    apart = FeatureTable(
        train.vectors.flatten(0, 1)[:, None],
        train.labels.repeat_interleave(3),
        CLASSES,
        *[tuple(map(str, range(count)))] * 3,
        "none",
    )
    images = noisy(5, 24, seed=2).plain
    expected = method(clip).fit(apart, validation).predict_proba(images)
    found = method(clip).fit(train, validation).predict_proba(images)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.abs(found - method(clip).fit(replace(train, vectors=train.vectors[:, :1]), validation)
                  .predict_proba(images)).max() > 1e-6  # fmt: skip
