"""Learned matrices that few rows go through: SGD on them without ever writing their gradient down.

The gradient of Y = X W^T by W is G^T X, where G is that by Y. With a handful of rows it is known by
a handful of numbers a side, but as large as W once multiplied out; making it, adding it up and
reading it again takes far longer than everything else in a step of the merge prompt. So G and X
stay apart until the momentum takes them in, in the one pass that it needs anyway. The numbers are
those of `torch.optim.SGD` to floating-point order.

Rows that stay the same from step to step, as encoded symptoms do between two encodings, need not
go through the matrix either: SGD is linear, so what it does to X W^T follows from the gradients by
it, X X^T and itself. The matrix learns of those steps all at once, see `SameRows`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.optim.sgd import sgd

from medvip.products import multiply

ROWS_AT_ONCE = 256
"""Of a matrix that is brought up to date."""


class FewRows(nn.Linear):
    """A linear layer without bias, for few rows at a time; an ordinary one without `FewRowsSGD`.

    Gradients can be left to autograd, or be computed by whoever uses the layer. Then `rows` come
    first. `product` is what the layer makes of them. From the gradient by the product, `back` gives
    that by the rows, and `learn` takes down that by the weight.

    Attributes
    ----------
    factors
        While an optimiser wants them: pairs G [row, out] and X [row, in], one for each time that the
        layer was used since the last step. None: the gradient goes to the weight, as always.
    same
        While the layer is given one and the same constant tensor step after step: what has become
        of its product. The weight lags behind until `settle`.

    Examples
    --------
    >>> layer = FewRows(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> rows = layer.rows(torch.tensor([[1.0, 2.0]]))
    >>> layer.product(rows).tolist(), layer.back(torch.tensor([[10.0]])).tolist()
    ([[11.0]], [[30.0, 40.0]])
    >>> layer.learn(torch.tensor([[10.0]]), rows)
    >>> layer.weight.grad.tolist()
    [[10.0, 20.0]]
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.factors: list[tuple[Tensor, Tensor]] | None = None
        self.same: SameRows | None = None
        self._last: tuple[Tensor, int] | None = None

    def forward(self, input: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        """Input W^T."""
        if not torch.is_grad_enabled():
            self.settle()
            product = multiply(input.reshape(-1, self.in_features), self.weight)
            return product.reshape(*input.shape[:-1], self.out_features)
        if self.factors is None:
            return super().forward(input)
        product = _Product.apply(self.rows(input), self.weight, self)
        return product.reshape(*input.shape[:-1], self.out_features)

    def rows(self, input: Float[Tensor, "*rows in"]) -> Float[Tensor, "row in"]:
        """The input as a list of rows; those of the last time where it is the same constant tensor."""
        if self.factors is not None and self._seen_before(input):
            self.same = self.same or SameRows(input.reshape(-1, self.in_features), self.weight)
            return self.same.rows
        self.settle()
        return input.reshape(-1, self.in_features)

    @torch.no_grad()
    def product(self, rows: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """Rows W^T, without a way back for autograd. The next step may change it in place."""
        if self.same is not None and rows is self.same.rows:
            return self.same.product
        self.settle()
        return multiply(rows, self.weight)

    @torch.no_grad()
    def back(self, gradient: Float[Tensor, "row out"]) -> Float[Tensor, "row in"]:
        """The gradient by the rows, from that by their product."""
        self.settle()
        return multiply(gradient, self.weight.T)

    @torch.no_grad()
    def learn(self, gradient: Float[Tensor, "row out"], rows: Float[Tensor, "row in"]) -> None:
        """Take down the gradient by the weight, from that by the product with `rows`."""
        if self.factors is not None:
            self.factors.append((gradient, rows))
        elif self.weight.requires_grad:
            add_gradient(self.weight, gradient.T @ rows)

    def settle(self) -> None:
        """Bring the weight up to date."""
        if self.same is not None:
            self.same.settle(self.weight)
            self.same = None

    def _seen_before(self, input: Tensor) -> bool:
        """Whether it is the very tensor of the last time, unchanged since, and nothing is learned in it."""
        last, self._last = self._last, None if input.requires_grad else (input, input._version)
        return last is not None and last[0] is input and last[1] == input._version


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """As autograd would leave it there."""
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, layer: FewRows) -> Tensor:
        # Rows that learn need the weight, too, and torch sees to it that it is still the same then.
        ctx.save_for_backward(rows, *([weight] if ctx.needs_input_grad[0] else []))
        ctx.layer = layer
        product = layer.product(rows)
        return product.clone() if layer.same is not None else product

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides its form
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, None, None]:
        rows = ctx.saved_tensors[0]
        ctx.layer.learn(gradient, rows)
        return ctx.layer.back(gradient) if ctx.needs_input_grad[0] else None, None, None


class SameRows:
    """X W^T of rows X that stay the same, while SGD goes on with W.

    With G the gradient by Y = X W^T, momentum M, rates mu, lambda (weight decay) and eta, a step is

        M <- mu M + G^T X + lambda W,            W <- W - eta M.

    So with Z = X M^T the product follows Z <- mu Z + (X X^T) G + lambda Y and Y <- Y - eta Z. The
    matrices themselves stay combinations of what they were, W_0 and M_0, and a product with X:

        W = a_W W_0 + b_W M_0 + P_W^T X,        M likewise.

    Parameters
    ----------
    rows
        X.
    weight
        W_0.
    """

    @torch.no_grad()
    def __init__(self, rows: Float[Tensor, "row in"], weight: Float[Tensor, "out in"]) -> None:
        self.rows, self.product = rows.clone(), multiply(rows, weight)
        self._products, self._version = rows @ rows.T, weight._version
        self._momentum: Tensor | None = None
        self._of_product = torch.zeros_like(self.product)  # Z
        nothing = torch.zeros_like(self.product)
        self._of_weight, self._of_momentum = (
            _Combination(1.0, 0.0, nothing),
            _Combination(0.0, 1.0, nothing.clone()),
        )

    @torch.no_grad()
    def step(
        self,
        gradient: Float[Tensor, "row out"],
        momentum: Float[Tensor, "out in"],
        rate: float,
        mu: float,
        decay: float,
    ) -> None:
        """One step; `momentum` is M_0 and the same at each call."""
        if self._momentum is None:
            self._momentum, self._of_product = momentum, multiply(self.rows, momentum)
        self._of_product.mul_(mu).add_(self.product, alpha=decay).addmm_(self._products, gradient)
        self.product.add_(self._of_product, alpha=-rate)
        self._of_momentum.scale_and_add(mu, self._of_weight, decay)
        self._of_momentum.factor.add_(gradient)
        self._of_weight.scale_and_add(1.0, self._of_momentum, -rate)

    @torch.no_grad()
    def settle(self, weight: Float[Tensor, "out in"]) -> None:
        """W_0 and M_0 to what they are after the steps so far, in place.

        Some rows at a time, which a copy of stays in the cache: one of all would cost more than the rest.

        Raises
        ------
        RuntimeError
            Somebody else has changed W_0 meanwhile.
        """
        if self._momentum is None:
            return
        if weight._version != self._version:
            raise RuntimeError("the weight was changed while it lagged behind: settle it before")
        for start in range(0, len(weight), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            of_weight, of_momentum = weight[some], self._momentum[some]
            before = of_weight.clone()
            new, its_momentum = self._of_weight, self._of_momentum
            of_weight.addmm_(new.factor[:, some].T, self.rows, beta=new.a).add_(of_momentum, alpha=new.b)
            of_momentum.addmm_(its_momentum.factor[:, some].T, self.rows, beta=its_momentum.b)
            of_momentum.add_(before, alpha=its_momentum.a)


class _Combination:
    """`a` W_0 + `b` M_0 + `factor`^T X."""

    def __init__(self, a: float, b: float, factor: Float[Tensor, "row out"]) -> None:
        self.a, self.b, self.factor = a, b, factor

    def scale_and_add(self, scale: float, other: _Combination, times: float) -> None:
        """`scale` times itself and `times` times another."""
        self.a, self.b = scale * self.a + times * other.a, scale * self.b + times * other.b
        self.factor.mul_(scale).add_(other.factor, alpha=times)


class FewRowsSGD:
    """SGD with momentum and weight decay that takes gradients of `FewRows` layers as factors.

    All others go through torch's own SGD in its functional form: to make one of torch's optimisers
    imports its compiler, which takes longer than some fits.

    Parameters
    ----------
    model
        Whose `FewRows` layers to ask for factors, until `release` is called.
    parameters
        To learn, or groups of them with settings of their own, as `torch.optim.SGD` takes them.
    lr, momentum, weight_decay
        As of `torch.optim.SGD`.

    Raises
    ------
    ValueError
        A parameter stands there twice.

    Attributes
    ----------
    param_groups
        Parameters and their settings, which can be changed between steps.

    Examples
    --------
    >>> layer = FewRows(2, 2)
    >>> _ = layer.weight.data.copy_(torch.eye(2))
    >>> optimizer = FewRowsSGD(layer, layer.parameters(), lr=0.1, momentum=0.9)
    >>> layer(torch.tensor([[1.0, 0.0]])).sum().backward()
    >>> optimizer.step()
    >>> layer.weight.tolist(), layer.weight.grad
    ([[0.8999999761581421, 0.0], [-0.10000000149011612, 1.0]], None)
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        settings, given = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, list(parameters)
        groups: Any = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            settings | group | {"params": _listed(group["params"])} for group in groups
        ]
        all_of_them = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        group_of = dict(all_of_them)
        if len(group_of) < len(all_of_them):
            raise ValueError("a parameter stands twice among those to learn")
        self._momenta = {parameter: torch.zeros_like(parameter) for parameter in group_of}
        self._layers = [
            (layer, self._momenta[layer.weight], group_of[layer.weight])
            for layer in model.modules()
            if isinstance(layer, FewRows) and layer.weight in group_of
        ]
        for layer, _, _ in self._layers:
            layer.factors = []

    def settle(self) -> None:
        """Bring all weights up to date, before anybody but their layer looks at them."""
        for layer, _, _ in self._layers:
            layer.settle()

    def release(self) -> None:
        """Layers are ordinary ones from now on."""
        self.settle()
        for layer, _, _ in self._layers:
            layer.factors = layer._last = None

    def zero_grad(self) -> None:
        """Forget gradients and factors."""
        for parameter in self._momenta:
            parameter.grad = None
        for layer, _, _ in self._layers:
            if layer.factors:
                layer.factors.clear()

    @torch.no_grad()
    def step(self) -> None:
        """One step; what has no gradient stays as it is."""
        for layer, momentum, group in self._layers:  # first: rows may themselves be learned
            if not layer.factors:
                continue
            same = layer.same
            if same is not None and all(rows is same.rows for _, rows in layer.factors):
                gradient = torch.stack([gradient for gradient, _ in layer.factors]).sum(0)
                rates = (float(group[name]) for name in ("lr", "momentum", "weight_decay"))
                same.step(gradient, momentum, *rates)
                continue
            layer.settle()
            gradients, rows = map(torch.cat, zip(*layer.factors, strict=True))
            # In this order the slowest of these passes finds the momentum in the cache.
            momentum.mul_(group["momentum"]).add_(layer.weight, alpha=group["weight_decay"])
            momentum.addmm_(gradients.T, rows)
            layer.weight.add_(momentum, alpha=-group["lr"])
        for group in self.param_groups:
            self._step_of_others(group)

    def _step_of_others(self, group: dict[str, Any]) -> None:
        changed = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not changed:
            return
        sgd(
            changed,
            [parameter.grad for parameter in changed],
            [self._momenta[parameter] for parameter in changed],
            fused=True,  # one pass instead of four
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for parameter in changed:  # which a fused step does not
            torch.autograd.graph.increment_version(parameter)


def _listed(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)
