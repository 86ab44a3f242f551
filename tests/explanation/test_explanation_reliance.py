"""How much rests on the class vectors: against naive loops, and where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medvip.explanation import LogitParts, Reliance, reliance


def parts(symptoms: torch.Tensor, class_vector: torch.Tensor) -> LogitParts:
    shape = symptoms.shape[:2]
    return LogitParts(
        class_vector.double() + symptoms.double().sum(1),
        symptoms.double(),
        class_vector.double(),
        torch.full(shape, 1 / shape[1]).double(),
        torch.nn.functional.normalize(symptoms.double(), dim=-1),
        torch.ones(shape).bool(),
    )


@pytest.fixture(scope="module")
def some() -> tuple[torch.Tensor, LogitParts, np.ndarray]:
    random = torch.Generator().manual_seed(4)
    images = torch.randn(60, 8, generator=random)
    made = parts(torch.randn(3, 4, 8, generator=random), 2 * torch.randn(3, 8, generator=random))
    return images, made, np.random.default_rng(0).integers(0, 3, 60)


def naive(images: torch.Tensor, made: LogitParts, labels: np.ndarray) -> dict[str, float]:
    """One image after the other, with numpy's own covariance."""
    u, v = [], []
    for image in images.double().numpy():
        f = image / np.linalg.norm(image)
        u.append([sum(f @ p for p in symptoms) for symptoms in made.symptoms.numpy()])
        v.append([f @ g for g in made.class_vector.numpy()])
    u, v = np.array(u), np.array(v)
    lead = part = same = right = right_u = right_v = 0.0
    for a, b, label in zip(u, v, labels, strict=True):
        first, second = np.argsort(-(a + b))[:2]
        lead += (a + b)[first] - (a + b)[second]
        part += b[first] - b[second]
        same += np.argmax(a) == first
        right, right_u, right_v = (
            right + (first == label),
            right_u + (np.argmax(a) == label),
            right_v + (np.argmax(b) == label),
        )
    logits = u + v - (u + v).mean(1, keepdims=True)
    centred = v - v.mean(1, keepdims=True)
    spread = sum(np.cov(logits[:, c], centred[:, c])[0, 1] for c in range(3))
    number = len(u)
    return {
        "part_of_lead": part / lead,
        "part_of_spread": spread / sum(np.var(logits[:, c], ddof=1) for c in range(3)),
        "same_by_symptoms": same / number,
        "accuracy": right / number,
        "accuracy_of_symptoms": right_u / number,
        "accuracy_of_class_vectors": right_v / number,
    }


def test_every_figure_is_what_a_loop_gives(some) -> None:
    images, made, labels = some
    found = reliance(images, made, labels)
    for name, value in naive(images, made, labels).items():
        figure = getattr(found, name)
        assert figure.value == pytest.approx(value, abs=1e-9), name
        assert figure.low <= figure.value <= figure.high
    assert (found.images, found.groups) == (60, 60)


def test_intervals_are_over_groups(some) -> None:
    images, made, labels = some
    repeated = reliance(images.repeat(4, 1), made, np.tile(labels, 4), [str(i % 60) for i in range(240)])
    once = reliance(images, made, labels)
    assert repeated.groups == 60
    for name in ("part_of_lead", "accuracy"):
        one, other = getattr(repeated, name), getattr(once, name)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.2)
    as_images = reliance(images.repeat(4, 1), made, np.tile(labels, 4))
    assert as_images.accuracy.high - as_images.accuracy.low < 0.7 * (once.accuracy.high - once.accuracy.low)


def test_without_class_vectors_all_is_the_symptoms_and_the_other_way_round(some) -> None:
    images, made, labels = some
    of_symptoms = reliance(images, parts(made.symptoms, torch.zeros(3, 8)), labels)
    assert of_symptoms.part_of_lead.value == 0
    assert of_symptoms.part_of_spread.value == 0
    assert of_symptoms.same_by_symptoms.value == 1
    of_class_vectors = reliance(images, parts(torch.zeros(3, 4, 8), made.class_vector), labels)
    assert of_class_vectors.part_of_lead.value == pytest.approx(1)
    assert of_class_vectors.part_of_spread.value == pytest.approx(1)


def test_a_constant_part_gives_a_lead_and_tells_nothing_apart() -> None:
    """All images share their first coordinate; the class vector looks only there."""
    random = torch.Generator().manual_seed(0)
    around = torch.nn.functional.normalize(torch.randn(200, 4, generator=random), dim=-1)
    images = torch.cat([torch.ones(200, 1), around], dim=1)
    class_vector = torch.tensor([[9.0, 0, 0, 0, 0], [0.0, 0, 0, 0, 0]])
    symptoms = torch.cat([torch.zeros(2, 1, 1), torch.randn(2, 1, 4, generator=random)], dim=-1)
    found = reliance(images, parts(symptoms, class_vector))
    assert found.part_of_lead.value > 0.8
    assert found.part_of_spread.value == pytest.approx(0, abs=1e-7)
    assert found.accuracy is None
    assert "Right are" not in found.in_words()


def test_in_words_and_as_json(some) -> None:
    images, made, labels = some
    found: Reliance = reliance(images, made, labels)
    said = found.in_words()
    assert f"{100 * found.part_of_lead.value:.0f} % [" in said
    assert "which no symptom explains" in said
    assert found.to_json()["part_of_lead"] == found.part_of_lead.to_json()
    assert found.to_json()["images"] == 60
    alone = reliance(images[:1], made, labels[:1])
    assert np.isnan(alone.part_of_spread.value)
    assert alone.to_json()["part_of_spread"] == {"value": None, "low": None, "high": None}
    assert "an undefined share" in alone.in_words()
