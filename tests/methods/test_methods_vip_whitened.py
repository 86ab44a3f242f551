"""vip-whitened against its equations written out, scipy on the whole space, and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from small_models import embedded_with_any_map, made_up, texts_by_transformers

import medvip
from medvip.backbones import Backbone, load_backbone
from medvip.errors import SymptomError, TrainingError, UsageError
from medvip.explanation import contributions
from medvip.explanation.logit_parts import parts_of
from medvip.explanation.maps import share_maps
from medvip.explanation.what_if import Change, changed_method
from medvip.features import FeatureTable
from medvip.methods import ViPWhitened, vip_whitened, whitened_regression
from medvip.methods.vectors import rooted
from medvip.methods.whitened_regression import Strengths, WhitenedRegression
from medvip.symptoms import SymptomSet

CLASSES = ("blue", "green", "red")
STRENGTHS = Strengths(shrinkage=10.0, penalty=0.07, balance=0.5, symptom_penalty=0.3)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small gain nothing from threads, and lose much where the processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def clip(tiny_clip: Path) -> Backbone:
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture
def symptoms(tiny_symptoms: dict[str, list[str]]) -> SymptomSet:
    return SymptomSet.from_mapping(tiny_symptoms)


@pytest.fixture(scope="module", params=["clip", "siglip", "embedded"])
def backbone(request: pytest.FixtureRequest, tiny_clip: Path, tiny_siglip: Path) -> Backbone:
    if request.param == "embedded":
        return embedded_with_any_map()
    return load_backbone(str(tiny_clip if request.param == "clip" else tiny_siglip), device="cpu")


def problem(images: int, dim: int, seed: int = 0, shares=(4, 2, 1)) -> tuple[np.ndarray, ...]:
    """Overlapping classes of unequal sizes at length 1; seven symptoms of three classes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), [images * share // sum(shares) for share in shares])
    vectors = random.normal(size=(3, dim))[labels] + 1.5 * random.normal(size=(len(labels), dim)) + 1
    symptoms = random.normal(size=(7, dim))
    length_1 = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, symptoms)]
    return length_1[0], labels, length_1[1], np.array([0, 0, 0, 1, 1, 2, 2])


def literal(images, labels, symptoms, owners, s: Strengths):
    """The objective as the module's docstring has it, in all dimensions: of g [class, dim] and b [text]."""
    n, dim = images.shape
    means = [images[labels == c].mean(0) for c in range(3)]
    scatter = sum(np.outer(f - means[c], f - means[c]) for f, c in zip(images, labels, strict=True))
    M = (dim * scatter / np.trace(scatter) + s.shrinkage * np.eye(dim)) / (1 + s.shrinkage)
    V = np.mean([((f - images.mean(0)) ** 2).sum() for f in images])
    v = np.array([(labels == c).sum() ** -s.balance for c in labels])
    v = v / v.mean()

    def of(g: np.ndarray, b: np.ndarray) -> float:
        w = np.stack([g[c] + sum(b[j] * symptoms[j] for j in np.flatnonzero(owners == c)) for c in range(3)])
        loss = -(v * log_softmax(images @ w.T, 1)[np.arange(n), labels]).sum()
        return loss + s.penalty * V / 2 * (sum(x @ M @ x for x in g) + s.symptom_penalty * (b**2).sum())

    return of


@pytest.mark.parametrize(
    ("images", "dim", "strengths"),
    [
        (28, 6, STRENGTHS),
        (14, 20, STRENGTHS),
        (28, 6, Strengths(0.5, 0.7, 1.0, 0.02)),
        (14, 9, Strengths(100.0, 0.02, 0.0, 3.0)),
    ],
)
def test_the_solution_is_the_least_of_the_written_out_objective(
    images: int, dim: int, strengths: Strengths
) -> None:
    rows, labels, symptoms, owners = problem(images, dim)
    found = WhitenedRegression(rows, labels, owners, strengths).solve(symptoms)
    of = literal(rows, labels, symptoms, owners, strengths)
    assert of(found.vectors, found.weights) == pytest.approx(found.objective, rel=1e-9)

    least = whitened_regression.LEAST_WEIGHT
    reference = minimize(
        lambda x: of(x[: 3 * dim].reshape(3, dim), x[3 * dim :]),
        np.concatenate([0.1 * np.ones(3 * dim), np.ones(7)]),
        method="L-BFGS-B",
        bounds=[(None, None)] * (3 * dim) + [(least, None)] * 7,
        options={"maxfun": 200_000, "maxiter": 2000, "ftol": 1e-14, "gtol": 1e-8},
    )
    assert found.objective == pytest.approx(reference.fun, rel=1e-5)
    g, b = reference.x[: 3 * dim].reshape(3, dim), reference.x[3 * dim :]
    np.testing.assert_allclose(found.weights, b, atol=0.02 * max(1, b.max()))
    said, expected = (
        softmax(rows @ (v + (np.eye(3)[owners] * w[:, None]).T @ symptoms).T, axis=1)
        for v, w in ((found.vectors, found.weights), (g, b))
    )
    np.testing.assert_allclose(said, expected, atol=5e-3)
    assert (found.weights >= least).all()


def test_without_covariance_and_symptoms_it_is_scikit_learns_regression() -> None:
    rows, labels, symptoms, owners = problem(60, 8)
    nothing = np.zeros_like(symptoms)
    found = WhitenedRegression(rows, labels, owners, Strengths(1e9, 0.07, 1.0, 1.0)).solve(nothing)
    spread = ((rows - rows.mean(0)) ** 2).sum(1).mean()
    model = LogisticRegression(
        C=1 / (0.07 * spread), fit_intercept=False, class_weight="balanced", tol=1e-8, max_iter=5000
    ).fit(rows, labels)
    np.testing.assert_allclose(softmax(rows @ found.vectors.T, 1), model.predict_proba(rows), atol=2e-3)


def test_the_slope_by_the_symptoms_is_that_of_finite_differences() -> None:
    rows, labels, symptoms, owners = problem(21, 5)
    regression = WhitenedRegression(rows, labels, owners, STRENGTHS)
    found = regression.solve(symptoms, 7)
    of = lambda texts: literal(rows, labels, texts, owners, STRENGTHS)(found.vectors, found.weights)  # noqa: E731
    numbers = np.zeros_like(symptoms)
    for place in np.ndindex(symptoms.shape):
        step = np.zeros_like(symptoms)
        step[place] = 1e-5
        numbers[place] = (of(symptoms + step) - of(symptoms - step)) / 2e-5
    np.testing.assert_allclose(regression.slope(symptoms), numbers, atol=1e-7)
    assert abs(numbers).max() > 1e-3


def test_views_that_are_all_alike_change_nothing() -> None:
    rows, labels, symptoms, owners = problem(28, 6)
    one = WhitenedRegression(rows, labels, owners, STRENGTHS).solve(symptoms)
    three = WhitenedRegression(np.repeat(rows, 3, 0), np.repeat(labels, 3), owners, STRENGTHS, 3).solve(
        symptoms
    )
    assert three.objective == pytest.approx(one.objective, rel=1e-6)
    np.testing.assert_allclose(three.vectors, one.vectors, atol=1e-2 * abs(one.vectors).max())


def test_rooted_by_loop() -> None:
    numbers = torch.randn(4, 5)
    expected = [[np.sign(x) * abs(x) ** 0.35 for x in row] for row in numbers.tolist()]
    np.testing.assert_allclose(rooted(numbers, 0.35), expected, atol=1e-6)
    assert torch.equal(rooted(numbers, 1.0), numbers.double()), "1 leaves them as they are"


def test_probabilities_and_state_are_those_of_the_equations(backbone: Backbone, symptoms: SymptomSet) -> None:
    model = ViPWhitened(backbone, symptoms, power=0.7).fit(*two_tables(backbone))
    state = {name: tensor.numpy() for name, tensor in model.state().items()}
    images = two_tables(backbone, seed=3)[0].plain.double().numpy()
    rows = []
    for x in images:
        phi = np.sign(x) * np.abs(x) ** 0.7
        f = phi / np.linalg.norm(phi)
        logits = []
        for c in range(3):
            s = state["merge_query"][c].copy()
            for a, t in zip(state["symptom_attention"][c], state["symptom_vectors"][c], strict=True):
                s = s + a * t
            np.testing.assert_allclose(s, state["class_vectors"][c], atol=1e-9 * np.abs(s).max())
            logits.append(state["class_scales"][c] * (f @ s) / np.linalg.norm(s))
        rows.append(softmax(logits))
    np.testing.assert_allclose(model.predict_proba(torch.from_numpy(images)), rows, atol=1e-9)
    np.testing.assert_allclose(state["symptom_attention"].sum(1), 1, atol=1e-12)
    assert (state["symptom_attention"] >= 0).all()


def two_tables(backbone: Backbone, images: int = 24, seed: int = 0) -> tuple[FeatureTable, FeatureTable]:
    dim = backbone.embed_dim
    return made_up(CLASSES, images, dim, seed=seed), made_up(CLASSES, 9, dim, seed=seed + 1)


def test_the_shares_sum_to_the_logit_and_none_can_be_left_out(
    backbone: Backbone, symptoms: SymptomSet
) -> None:
    model = ViPWhitened(backbone, symptoms, symptom_penalty=0.01).fit(*two_tables(backbone))
    images = two_tables(backbone, seed=3)[0].plain
    found = contributions(images, parts_of(model), model.classes, symptoms.for_classes(model.classes))
    without = []
    for image, row in zip(found, model.predict_proba(images), strict=True):
        for one in image:
            shares = [symptom.share for symptom in one.symptoms]
            assert one.class_vector + sum(shares) == pytest.approx(one.logit, abs=1e-5)
            assert all(-1 <= symptom.similarity <= 1 for symptom in one.symptoms)
            without.append(max(abs(share) for share in shares))
        np.testing.assert_allclose(softmax([one.logit for one in image]), row, atol=1e-9)
    assert np.median(without) > 1e-4  # dropping a share would be seen


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_maps_of_rooted_vectors_sum_to_the_shares(
    backbone: Backbone, symptoms: SymptomSet, power: float
) -> None:
    """Of an image whose vector is means over the places of three grids, end to end, before the root."""
    model = ViPWhitened(backbone, symptoms, symptom_penalty=0.01, power=power).fit(*two_tables(backbone))
    random, parts = torch.Generator().manual_seed(0), parts_of(model)
    widths = (5, 7, backbone.embed_dim - 12)
    grids = [
        torch.randn(4, side, side - 1, width, generator=random)
        for side, width in zip((4, 3, 2), widths, strict=True)
    ]
    maps = share_maps(grids, parts)
    shares, class_vector = parts.shares(torch.cat([grid.mean((1, 2)) for grid in grids], 1))
    np.testing.assert_allclose(sum(one.sum((-1, -2)) for one, _ in maps), shares, atol=1e-5)
    np.testing.assert_allclose(sum(one.sum((-1, -2)) for _, one in maps), class_vector, atol=1e-5)
    for _, of_class_vector in maps:
        assert np.ptp(of_class_vector.numpy(), axis=(-1, -2)).min() > 1e-6
    assert np.ptp(maps[-1][0].numpy(), axis=(-1, -2)).max() > 1e-6


def test_symptoms_are_not_changed_behind_fitted_weights(backbone: Backbone, symptoms: SymptomSet) -> None:
    model = ViPWhitened(backbone, symptoms).fit(*two_tables(backbone))
    name, texts = next(iter(symptoms.classes.items()))
    with pytest.raises(UsageError, match=r"fits a weight for each symptom.*fit it again"):
        changed_method(model, [Change(name, texts[0])])


def test_a_run_in_a_folder_explains_what_it_predicts(
    clip: Backbone, symptoms: SymptomSet, tiny_images: Path, tmp_path: Path
) -> None:
    dataset = medvip.load_dataset(tiny_images)
    medvip.fit(dataset, clip, symptoms, method="vip-whitened", out=tmp_path / "run", quiet=True, seed=2)
    run = medvip.load_run(tmp_path / "run", backbone=clip)
    assert run.method.options()["seed"] == 2
    paths = [sample.path for sample in dataset.only("test")][:3]
    for explained, row in zip(run.explain(paths), run.predict_proba(paths), strict=True):
        logits = [one.class_vector + sum(s.share for s in one.symptoms) for one in explained.classes]
        np.testing.assert_allclose(softmax(logits), row, atol=1e-6)


def test_several_seeds_are_each_what_they_are_alone(
    clip: Backbone, symptoms: SymptomSet, tiny_images: Path
) -> None:
    dataset = medvip.load_dataset(tiny_images)
    common = {"method": "vip-whitened", "quiet": True}
    runs = medvip.fit_seeds(dataset, clip, symptoms, seeds=[1, 2], shots=1, **common)
    alone = medvip.fit(medvip.few_shot(dataset, 1, seed=2), clip, symptoms, seed=2, **common)
    assert torch.equal(runs[1].method.state()["class_vectors"], alone.method.state()["class_vectors"])


def test_symptoms_are_read_in_the_images_space_behind_the_context(
    clip: Backbone, tiny_clip: Path, symptoms: SymptomSet
) -> None:
    """The context is put in as everywhere; t is u |m|^(1 - power), without what all have in common."""
    train, validation = two_tables(clip)
    model = ViPWhitened(clip, symptoms, power=0.25).fit(train, validation)
    state = model.state()
    factor = np.abs(train.plain.double().numpy().mean(0)) ** 0.75
    by_class = symptoms.for_classes(CLASSES)
    texts = [f"{text}." for texts in by_class for text in texts]
    encoded = texts_by_transformers("clip", tiny_clip, clip, texts, state["context_prompt"]).astype(float)
    expected = encoded * factor
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected -= expected.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = [
        state["symptom_vectors"][c, i] for c, of_class in enumerate(by_class) for i in range(len(of_class))
    ]
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-4)


def test_symptoms_that_are_all_alike_say_nothing(clip: Backbone) -> None:
    """Nothing is left of them, and the classes are told apart by g."""
    train, validation = two_tables(clip)
    alike = SymptomSet.from_mapping({name: ["the same"] for name in CLASSES})
    model = ViPWhitened(clip, alike, context=0).fit(train, validation)
    assert float(model.state()["symptom_vectors"].norm(dim=-1).max()) < 0.01
    found = model.predict_proba(train.plain).argmax(1)
    assert (found == train.labels.numpy()).mean() > 0.9


def test_the_context_learns_and_can_be_turned_off(
    clip: Backbone, symptoms: SymptomSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = ViPWhitened(clip, symptoms).fit(*two_tables(clip))
    assert len(learned.history) == vip_whitened.ROUNDS + 1
    monkeypatch.setattr(vip_whitened, "CONTEXT_RATE", 0.0)
    start = ViPWhitened(clip, symptoms).fit(*two_tables(clip))
    assert not torch.equal(learned.state()["context_prompt"], start.state()["context_prompt"])
    assert learned.history[-1]["objective"] < start.history[-1]["objective"]
    off = ViPWhitened(clip, symptoms, context=0).fit(*two_tables(clip))
    assert off.state()["context_prompt"].shape == (0, clip.token_dim)
    assert len(off.history) == 1


def test_the_smaller_their_penalty_the_more_rests_on_symptoms(clip: Backbone, symptoms: SymptomSet) -> None:
    def sums(penalty: float) -> float:
        state = ViPWhitened(clip, symptoms, symptom_penalty=penalty, context=0).fit(*two_tables(clip)).state()
        return float((state["class_vectors"].norm(dim=1) / state["class_scales"]).reciprocal().sum())

    assert sums(0.01) > sums(1.0) > sums(100.0)


def test_one_image_of_one_class_and_many_of_another(clip: Backbone, symptoms: SymptomSet) -> None:
    train, validation = two_tables(clip, 60)
    labels = train.labels.numpy()
    uneven = np.concatenate([np.flatnonzero(labels == 0), [1], np.flatnonzero(labels == 2)[:5]])
    model = ViPWhitened(clip, symptoms).fit(train.taken(uneven), validation)
    found = model.predict_proba(validation.plain)
    assert (found.argmax(1) == validation.labels.numpy()).mean() > 0.8
    equal = ViPWhitened(clip, symptoms, balance=1.0).fit(train.taken(uneven), validation)
    rare = validation.labels.numpy() == 1
    assert (equal.predict_proba(validation.plain)[rare, 1] > found[rare, 1]).all()


def test_validation_images_change_nothing(clip: Backbone, symptoms: SymptomSet) -> None:
    train, validation = two_tables(clip)
    first = ViPWhitened(clip, symptoms).fit(train, validation).state()
    other = ViPWhitened(clip, symptoms).fit(train, validation.taken(np.zeros(0, dtype=int))).state()
    assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_images_that_are_all_the_same_are_no_crash(clip: Backbone, symptoms: SymptomSet) -> None:
    train, validation = two_tables(clip)
    train.vectors[:] = train.vectors[:1]
    found = ViPWhitened(clip, symptoms).fit(train, validation).predict_proba(validation.plain)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "option",
    [
        {"context": -1},
        {"power": 0.0},
        {"power": 1.5},
        {"shrinkage": 0.0},
        {"penalty": -1.0},
        {"penalty": float("nan")},
        {"balance": 2.0},
        {"symptom_penalty": 0.0},
    ],
)
def test_options_that_make_no_sense_are_refused(option: dict, clip: Backbone, symptoms: SymptomSet) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} is"):
        ViPWhitened(clip, symptoms, **option)


def test_what_does_not_fit_is_refused(clip: Backbone, symptoms: SymptomSet) -> None:
    train, validation = two_tables(clip)
    without = train.taken(np.flatnonzero(train.labels.numpy() != 1))
    with pytest.raises(TrainingError, match="no training image of: green"):
        ViPWhitened(clip, symptoms).fit(without, validation)
    long = SymptomSet.from_mapping({name: ["very " * 90 + "long"] for name in CLASSES})
    with pytest.raises(SymptomError):
        ViPWhitened(clip, long).fit(train, validation)
