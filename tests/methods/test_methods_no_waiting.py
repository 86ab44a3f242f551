"""A training step reads nothing back from the device, where each read would be a wait for all before it.

What only a GPU would show, a tensor that is carried over to the processor, cannot be seen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import embedded_with_any_map, made_up
from torch.utils._python_dispatch import TorchDispatchMode

from medvip import SymptomSet, load_backbone
from medvip.methods import create_method
from medvip.training.few_rows import FewRowsSGD
from medvip.training.loop import _one_epoch
from medvip.training.together import Together

READING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("repeat_interleave", "unique_dim", "_unique2"),
}
CLASSES = ("blue", "red")
SYMPTOMS = SymptomSet.from_mapping({"blue": ["like the sky", "cold", "far away"], "red": ["like fire"]})


class Reads(TorchDispatchMode):
    """Notes every operation whose result, or the size of it, the processor has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READING or (name.startswith("index") and _picks_by_truth(args)):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def _picks_by_truth(args: Any) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vip", {}),
        ("vip", {"recipe": "fast"}),
        ("vip-merge", {}),
        ("vip-context-mean", {}),
        ("coop", {}),
    ],
)
@pytest.mark.parametrize("kind", ["clip", "embedded"])
def test_a_step_waits_for_nothing(
    name: str, options: dict[str, Any], kind: str, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = embedded_with_any_map() if kind == "embedded" else load_backbone(str(tiny_clip), device="cpu")
    method: Any = create_method(name, backbone, SYMPTOMS, seed=1, **options)
    model = method._model(CLASSES).train()
    optimizer = FewRowsSGD(model, model.parameters(), lr=0.01, momentum=0.9)
    table = made_up(CLASSES, 17, backbone.embed_dim)  # with `fast` the text is encoded once among 17 steps

    def epoch() -> None:
        steps = _one_epoch(model, table, optimizer, 0.01, 1, torch.Generator().manual_seed(1))
        Together([(model, steps)]).to_the_end()

    epoch()  # what follows from the texts alone is made, and may be looked at
    before = {key: value.clone() for key, value in model.state_dict().items()}
    monkeypatch.setattr(torch.Tensor, "tolist", lambda _: pytest.fail("a tensor was read"))
    with Reads() as reads:
        epoch()
    assert reads.seen == ["_local_scalar_dense"]  # the epoch's loss
    optimizer.release()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_reading_is_noticed() -> None:
    """Or the test above could not fail."""
    ones = torch.ones(3)
    with Reads() as reads:
        bool((ones > 0).all())
        torch.equal(ones, ones)
        ones[ones > 0] = torch.zeros(3)
    assert reads.seen == ["_local_scalar_dense", "equal", "index_put_"]
