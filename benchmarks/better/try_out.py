"""Candidates for `vip-whitened` on folds of training and validation images: one JSON line a draw.

    python benchmarks/better/try_out.py DATA OUT.jsonl --shots 4 all

What is in OUT.jsonl is not computed again. No test image is read (material.py). choose.py reads the lines.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import material
import torch

import medvip
from medvip.methods import ViPWhitened, create_method
from medvip.methods import vip_whitened as module

CENTRE = {
    "power": 1.0,
    "shrinkage": 10.0,
    "penalty": 0.07,
    "balance": 0.5,
    "symptom_penalty": 0.3,
    "context": 0,
}
ONE_OTHER = {
    "power": (0.75, 0.5),
    "balance": (0.0, 0.25, 1.0),
    "symptom_penalty": (0.03, 0.1, 1.0, 1e4),
    "context": (4,),
}
CANDIDATES = {
    **{
        f"shrinkage={a:g} penalty={c:g}": CENTRE | {"shrinkage": a, "penalty": c}
        for a in (3.0, 10.0, 20.0, 30.0, 1e6)
        for c in (0.035, 0.07, 0.14)
    },
    **{f"{name}={value:g}": CENTRE | {name: value} for name, values in ONE_OTHER.items() for value in values},
    "not centred": CENTRE,
    "not centred, context=4, slowest": CENTRE | {"context": 4},
    "context=4, slower": CENTRE | {"context": 4},
    "context=4, slowest": CENTRE | {"context": 4},
    "context=4, unlearned": CENTRE | {"context": 4},
    "linear-probe": None,
    "gda": None,
    "nearest-class-mean": None,
    "lp++": None,
}
USUAL_RATE = module.CONTEXT_RATE
RATES = {
    "context=4": 0.01,
    "context=4, slower": 0.001,
    "context=4, slowest": 0.0003,
    "context=4, unlearned": 0.0,
    "not centred, context=4, slowest": 0.0003,
}


class NotCentred(ViPWhitened):
    """Symptoms with what all of them have in common."""

    @staticmethod
    def _read(prompts: Any, slope: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(prompts.encoded().double().cpu() * slope, dim=-1)


KINDS = {"not centred": NotCentred, "not centred, context=4, slowest": NotCentred}


def learner(name: str, backbone: Any, symptoms: medvip.SymptomSet) -> Any:
    """A candidate, ready to be fitted; at once, since the context prompt's rate is the module's."""
    options = CANDIDATES[name]
    module.CONTEXT_RATE = RATES.get(name, USUAL_RATE)
    if options is None:
        return create_method(name, backbone, symptoms)
    return KINDS.get(name, ViPWhitened)(backbone, symptoms, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shots", nargs="+", default=["1", "2", "4", "8", "16", "all"])
    parser.add_argument("--only", nargs="+", help="these candidates")
    parser.add_argument("--draws", type=int, default=material.OUTER)
    given = parser.parse_args()
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    there = {tuple(json.loads(line)[key] for key in ("set", "shots", "draw", "candidate")) for line in lines}
    backbone = medvip.load_backbone("embedded", device="cpu")
    with given.out.open("a", encoding="utf-8") as out:
        for one in material.load(given.data, backbone):
            for draw, (train, validation, held) in enumerate(material.folds(one.table)[: given.draws]):
                for shots in given.shots:
                    few, chosen_by = train, validation
                    if shots != "all":
                        few = material.drawn(train, int(shots), draw + 1, "train")
                        chosen_by = material.drawn(validation, min(int(shots), 4), draw + 1, "val")
                    for name in given.only or CANDIDATES:
                        key = (one.name, shots, draw, name)
                        if key in there:
                            continue
                        start = time.perf_counter()
                        method = learner(name, backbone, one.symptoms)
                        method.fit(few, chosen_by)
                        seconds = time.perf_counter() - start
                        line = dict(zip(("set", "shots", "draw", "candidate"), key, strict=True))
                        line |= material.figures(method.predict_proba(held.plain), held) | {
                            "seconds": round(seconds, 3)
                        }
                        out.write(json.dumps(line) + "\n")
                        out.flush()


if __name__ == "__main__":
    main()
