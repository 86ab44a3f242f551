"""The merge prompt's gradients in closed form, against autograd on the same formulas written by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medvip.methods.merge_prompt import MergePrompt, cross_entropy_of_cosines
from medvip.training import FewRows
from medvip.training.few_rows import FewRowsSGD

SCALE = 7.0


def made_up(counts: list[int], dim: int, images: int, seed: int):
    """A merge prompt, symptoms, which of them are there, images and labels; in double precision."""
    random = torch.Generator().manual_seed(seed)
    merge = MergePrompt(len(counts), dim, random).double()
    nn.init.normal_(merge.query, generator=random)
    present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    symptoms = torch.randn(len(counts), max(counts), dim, generator=random, dtype=torch.double)
    seen = torch.randn(images, dim, generator=random, dtype=torch.double)
    labels = torch.randint(len(counts), (images,), generator=random)
    return merge, (symptoms * present[..., None]).requires_grad_(), present, seen, labels


def loss_by_hand(
    merge: MergePrompt,
    symptoms: torch.Tensor,
    present: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """The paper's equations, class by class and symptom by symptom, for autograd."""
    vectors = []
    for g, of_class, there in zip(merge.query, symptoms, present, strict=True):
        q = merge.query_projection.weight @ g
        scores = [q @ (merge.key_projection.weight @ t) / math.sqrt(len(g)) for t in of_class[there]]
        weights = torch.stack(scores).softmax(0)
        vectors.append(g + sum(a * t for a, t in zip(weights, of_class[there], strict=True)))
    logits = torch.stack(
        [SCALE * nn.functional.cosine_similarity(images, vector[None], dim=1) for vector in vectors], dim=1
    )
    return nn.functional.cross_entropy(logits, labels)


def loss_in_closed_form(
    merge: MergePrompt,
    symptoms: torch.Tensor,
    present: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """The same; leaves all gradients where autograd would."""
    merged = merge.merged(symptoms.detach(), present)
    loss, gradient = cross_entropy_of_cosines(images, labels, merged.class_vectors, SCALE)
    symptoms.grad = merged.back(gradient, to_symptoms=True)
    return loss


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    dim=st.integers(1, 6),
    images=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_gradients_are_those_of_the_equations(counts: list[int], dim: int, images: int, seed: int) -> None:
    merge, *problem = made_up(counts, dim, images, seed)
    symptoms, present = problem[:2]
    reference, theirs = copy.deepcopy(merge), symptoms.detach().clone().requires_grad_()
    wanted = loss_by_hand(reference, theirs, *problem[1:])
    wanted.backward()
    for times in (1, 2):  # gradients add up
        found = loss_in_closed_form(merge, *problem)
        torch.testing.assert_close(found, wanted.detach())
        for parameter, other in zip(merge.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, times * other.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(symptoms.grad[present], theirs.grad[present], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("constant", [True, False])
def test_many_steps_are_those_of_sgd_on_the_equations(constant: bool) -> None:
    """Also while constant symptoms do not go through W_k at all."""
    merge, symptoms, *rest = made_up([3, 1, 2], 5, 12, seed=3)
    reference = copy.deepcopy(merge)
    how = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    mine = FewRowsSGD(merge, merge.parameters(), **how)
    theirs = torch.optim.SGD(reference.parameters(), **how)
    fixed = symptoms.detach()
    for step in range(25):
        given_symptoms = fixed if constant else fixed + 0.1 * step
        mine.zero_grad()
        merged = merge.merged(given_symptoms, rest[0])
        merged.back(cross_entropy_of_cosines(*rest[1:], merged.class_vectors, SCALE)[1], to_symptoms=False)
        mine.step()
        theirs.zero_grad()
        loss_by_hand(reference, given_symptoms, *rest).backward()
        theirs.step()
    mine.release()
    for parameter, other in zip(merge.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-8, atol=1e-10)


def test_what_is_not_wanted_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    merge, symptoms, present, *_ = made_up([2, 1], 3, 2, seed=0)
    ways_back, back = [], FewRows.back
    monkeypatch.setattr(FewRows, "back", lambda self, given: ways_back.append(self) or back(self, given))
    for wanted, through in ((False, 1), (True, 2)):
        ways_back.clear()
        merged = merge.merged(symptoms.detach(), present)
        by_symptoms = merged.back(torch.ones(2, 3, dtype=torch.double), to_symptoms=wanted)
        assert (by_symptoms is None, len(ways_back)) == (not wanted, through)
    assert by_symptoms[~present].abs().max() == 0  # where no symptom stands


def test_class_vectors_are_those_of_forward() -> None:
    merge, symptoms, present, *_ = made_up([2, 1], 3, 2, seed=0)
    found = merge.merged(symptoms.detach(), present).class_vectors
    torch.testing.assert_close(found, merge(symptoms, present).detach())
    assert not found.requires_grad
