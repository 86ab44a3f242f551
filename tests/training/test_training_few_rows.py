"""SGD on factors of a gradient, against torch's own SGD on the gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medvip.training.few_rows import FewRows, FewRowsSGD


class Attention(nn.Module):
    """Learned rows through one layer, given rows twice through the other, and ordinary parameters.

    Its loss is such that steps do not run away, where rounding alone would tell two runs apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(2, 6))
        self.query, self.key, self.other = FewRows(6, 5), FewRows(6, 5), nn.Linear(5, 5)

    def forward(self, given: torch.Tensor, *, with_key: bool) -> torch.Tensor:
        found = self.other(self.query(self.rows)).sin().square().mean()
        if with_key:
            keys = self.key(given)  # [class, symptom, dim]
            found = found + torch.einsum("cd,csd->cs", self.query(self.rows), keys).tanh().mean()
            found = found + self.key(given[0]).sum()
        return found


def train(model: Attention, optimizer: Any, steps: list[bool], seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    for with_key in steps:
        optimizer.zero_grad()
        model(torch.randn(2, 3, 6, generator=drawn, dtype=torch.float64), with_key=with_key).backward()
        optimizer.step()


@settings(max_examples=25, deadline=None)
@given(
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 5e-4, 0.1]),
    steps=st.lists(st.booleans(), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
def test_the_steps_are_those_of_torchs_own_sgd(
    momentum: float, weight_decay: float, steps: list[bool], seed: int
) -> None:
    torch.manual_seed(seed)
    model = Attention().double()
    reference = copy.deepcopy(model)
    how = {"lr": 0.03, "momentum": momentum, "weight_decay": weight_decay}
    train(model, FewRowsSGD(model, model.parameters(), **how), steps, seed)
    train(reference, torch.optim.SGD(reference.parameters(), **how), steps, seed)
    for (name, found), wanted in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12, msg=name)


@settings(max_examples=40, deadline=None)
@given(
    momentum=st.sampled_from([0.0, 0.9]),
    weight_decay=st.sampled_from([0.0, 5e-4, 0.1]),
    steps=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["once", "twice", "mixed", "look"])), max_size=12
    ),
    seed=st.integers(0, 1000),
)
def test_rows_that_stay_the_same_change_nothing(
    momentum: float, weight_decay: float, steps: list[tuple[int, str]], seed: int
) -> None:
    """Two constant tensors in any order, also both in one step, at changing rates, looked at in between."""
    torch.manual_seed(seed)
    model = nn.Sequential(FewRows(6, 5)).double()
    reference = nn.Sequential(nn.Linear(6, 5, bias=False)).double()
    reference.load_state_dict(model.state_dict())
    kept, wanted = torch.randn(2, 2, 3, 6, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    constant = list(kept)
    how = {"momentum": momentum, "weight_decay": weight_decay}
    optimizer = FewRowsSGD(model, model.parameters(), lr=0.1, **how)
    of_reference = torch.optim.SGD(reference.parameters(), lr=0.1, **how)
    for number, (which, use) in enumerate(steps):
        for one, its in ((model, optimizer), (reference, of_reference)):
            its.param_groups[0]["lr"] = 0.1 / (1 + number)
            its.zero_grad()
            loss = (one(constant[which]) - wanted).square().mean()
            if use == "twice":
                loss = loss + one(constant[which]).exp().mean()
            if use == "mixed":
                loss = loss + one(constant[1 - which]).exp().mean()
            loss.backward()
            its.step()
        if use == "look":
            with torch.no_grad():
                torch.testing.assert_close(model(kept), reference(kept), rtol=1e-10, atol=1e-12)
    optimizer.release()
    torch.testing.assert_close(model[0].weight, reference[0].weight, rtol=1e-10, atol=1e-12)


def test_rows_that_stay_the_same_do_not_go_through_the_matrix() -> None:
    layer = FewRows(6, 5)
    optimizer = FewRowsSGD(layer, layer.parameters(), lr=0.1)
    rows, before = torch.randn(3, 6), layer.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        layer(rows).square().sum().backward()
        optimizer.step()
        lagging = layer.weight.detach().clone()
    after_one = before - 0.1 * 2 * (rows @ before.T).T @ rows
    torch.testing.assert_close(lagging, after_one)
    layer.settle()
    assert not torch.allclose(layer.weight, after_one)


def test_rows_that_are_changed_in_place_are_others() -> None:
    torch.manual_seed(0)
    layer, rows = FewRows(6, 5).double(), torch.randn(3, 6, dtype=torch.double)
    reference = copy.deepcopy(layer)
    how = {"lr": 0.02, "momentum": 0.9}
    mine, theirs = (
        FewRowsSGD(layer, layer.parameters(), **how),
        torch.optim.SGD(reference.parameters(), **how),
    )
    for step in range(8):
        if step == 5:
            rows.mul_(0.5)
        for one, optimizer in ((layer, mine), (reference, theirs)):
            optimizer.zero_grad()
            one(rows).square().sum().backward()
            optimizer.step()
    mine.release()
    torch.testing.assert_close(layer.weight, reference.weight, rtol=1e-10, atol=1e-12)


def lagging_layer() -> FewRows:
    """Its weight is two steps behind."""
    layer, rows = FewRows(6, 5).double(), torch.ones(3, 6, dtype=torch.double)
    optimizer = FewRowsSGD(layer, layer.parameters(), lr=0.02)
    for _ in range(3):
        optimizer.zero_grad()
        layer(rows).square().sum().backward()
        optimizer.step()
    assert layer.same is not None
    return layer


def test_whatever_is_asked_of_a_lagging_layer_is_answered_by_its_true_weight() -> None:
    gradient, others = torch.randn(3, 5, dtype=torch.double), torch.randn(3, 6, dtype=torch.double)
    true = lagging_layer()
    torch.manual_seed(1)
    true = lagging_layer()
    true.settle()
    for ask, wanted in (
        (lambda layer: layer.back(gradient), gradient @ true.weight),
        (lambda layer: layer.product(others), others @ true.weight.T),
        (lambda layer: layer(others[0]), true.weight @ others[0]),
    ):
        torch.manual_seed(1)
        torch.testing.assert_close(ask(lagging_layer()), wanted)


def test_a_lagging_weight_that_somebody_changes_is_refused() -> None:
    layer = lagging_layer()
    with torch.no_grad():
        layer.weight.mul_(2)
    with pytest.raises(RuntimeError, match="lagged behind"):
        layer.settle()


@pytest.mark.parametrize("gradients", [True, False])
def test_a_single_row_is_no_list(gradients: bool) -> None:
    layer = FewRows(6, 5)
    FewRowsSGD(layer, layer.parameters(), lr=0.1)
    with torch.set_grad_enabled(gradients):
        assert layer(torch.ones(6)).shape == (5,)


def test_parameters_are_taken_as_torchs_own_sgd_takes_them() -> None:
    layer = FewRows(2, 2)
    (group,) = FewRowsSGD(layer, [{"params": layer.weight, "lr": 0.5}], lr=0.1).param_groups
    assert (group["params"], group["lr"]) == ([layer.weight], 0.5)
    with pytest.raises(ValueError, match="twice"):
        FewRowsSGD(layer, [layer.weight, layer.weight], lr=0.1)


def test_no_gradient_is_ever_written_down() -> None:
    model = Attention()
    FewRowsSGD(model, model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 6), with_key=True).backward()
    assert model.query.weight.grad is None
    assert model.key.weight.grad is None
    assert model.other.weight.grad is not None
    assert [len(layer.factors or []) for layer in (model.query, model.key)] == [2, 2]


def test_each_group_has_its_own_rate() -> None:
    model = Attention().double()
    before = copy.deepcopy(model.state_dict())
    groups = [{"params": [model.key.weight], "lr": 0.0}, {"params": [model.query.weight]}]
    train(model, FewRowsSGD(model, groups, lr=0.1), [True], seed=1)
    assert torch.equal(model.key.weight, before["key.weight"])
    assert not torch.equal(model.query.weight, before["query.weight"])


def test_a_layer_that_is_not_learned_is_left_alone() -> None:
    model = Attention()
    FewRowsSGD(model, [model.query.weight], lr=0.1)
    assert model.key.factors is None


def test_a_released_layer_is_an_ordinary_one() -> None:
    model = Attention()
    optimizer = FewRowsSGD(model, model.parameters(), lr=0.1)
    optimizer.release()
    model(torch.randn(2, 3, 6), with_key=True).backward()
    assert model.query.weight.grad is not None
    assert model.key.weight.grad is not None
