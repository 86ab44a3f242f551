"""Other texts in the symptoms' place, everything else equal: `vip` and `vip-whitened`, test images.

    python benchmarks/better/symptoms_worth.py DATA [--out FOLDER] [--methods vip] [--shots 1 16 all]

Kinds, each with as many texts a class as there are symptoms: the symptoms; those of the next class (what
is said is right for another one); the class's name in four templates; random words, as many as each
symptom has; and food, useless and opposite texts (docs/knowledge-kinds.md) for the two sets that have them.

`vip` has its recipe ``fast``; `vip-whitened` no context prompt, so that it is done in a moment, its default
symptom_penalty of 0.3, and once 0.03, where symptoms carry several times as much. Each seed draws its own
images, alike for all kinds. Means over the seeds are compared by a bootstrap of draws and patients:
each resample takes seeds and test groups with replacement, the same ones for both kinds. With so few seeds
the draws' part of an interval comes out too narrow (by a tenth with five, two tenths with three). Nothing is
corrected for the many comparisons.

FOLDER gets a JSON file for each set, method and number of shots, and table.md. A file that is there is not
made again, whatever seeds it has; the table says which.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from material import SETS

import medvip
from medvip.atomic import write_atomically
from medvip.evaluation.bootstrap import group_codes, group_weights
from medvip.evaluation.comparison import figures_on, paired_difference
from medvip.features import Features
from medvip.images.order import shuffled
from medvip.methods import ViPWhitened, create_method
from medvip.methods.prompt_method import fit_all
from medvip.methods.vectors import rooted, unit
from medvip.symptoms import SymptomSet
from medvip.symptoms.variants import knowledge_variants

TEMPLATES = (
    "a photo of a {}.",
    "an image showing {}",
    "a medical picture of {}",
    "an example of {}, seen here",
)
WORDS = """anchor basket bridge butter button candle carpet castle chimney circus clock cloud coffee
compass cotton curtain desert dinner engine feather fiddle forest garden glove guitar hammer
harbour helmet honey island jacket kettle ladder lantern letter market meadow mirror monday
mountain needle orchard paper parrot pencil piano pillow planet pocket railway river saddle
salt sandal shovel silver sister spider station summer table teapot thunder ticket tower train
trumpet tunnel umbrella valley violin wagon walnut weather window winter"""
REAL = "symptoms"
MADE = ("next class's", "class names", "random words")
KNOWLEDGE = ("out-of-domain", "useless", "opposite")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "vip-whitened": ("vip-whitened", {"context": 0}),
    "vip-whitened, 0.03": ("vip-whitened", {"context": 0, "symptom_penalty": 0.03}),
    "vip": ("vip", {"recipe": "fast"}),
}
FIGURES = ("macro_f1", "auroc")
RESAMPLES = 1000


def kinds_of(symptoms: SymptomSet, name: str, classes: tuple[str, ...]) -> dict[str, SymptomSet]:
    """Each kind's set for these classes."""
    own = dict(zip(classes, symptoms.for_classes(classes), strict=True))
    following = dict(zip(classes, classes[1:] + classes[:1], strict=True))
    random = {
        c: [
            " ".join(shuffled(WORDS.split(), 1, c, str(i))[: len(line.split())])
            for i, line in enumerate(lines)
        ]
        for c, lines in own.items()
    }
    named = {c: [t.format(symptoms.plain_name(c)) for t in TEMPLATES[: len(own[c])]] for c in classes}
    made = {
        REAL: symptoms,
        "next class's": SymptomSet.from_mapping({c: list(own[following[c]]) for c in classes}),
        "class names": SymptomSet.from_mapping(named),
        "random words": SymptomSet.from_mapping(random),
    }
    if name in ("paediatric-pneumonia", "melanoma-nevus"):
        made |= {kind: one for kind, one in knowledge_variants(symptoms).items() if kind != REAL}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="holds the five sets' folders")
    out = Path(__file__).parents[1] / "results" / "better_symptoms"
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--shots", nargs="+", default=["1", "2", "4", "8", "16", "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    given = parser.parse_args()
    for method in given.methods:
        for folder in SETS:
            for shots in given.shots:
                file = given.out / f"{folder}_{method.replace(', ', '_')}_{shots}.json"
                if not file.exists():
                    found = compared(given.data / folder, method, shots, given.seeds)
                    write_atomically(file, json.dumps(found, indent=1) + "\n")
                    print(file.stem, flush=True)
    cells = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(given.out.glob("*.json"))]
    write_atomically(given.out / "table.md", "\n".join(tables(cells)) + "\n")
    print("\n".join(tables(cells)))


def compared(folder: Path, method: str, shots: str, seeds: list[int]) -> dict[str, Any]:
    """Each kind's figures, means over the seeds, and how far they are above those of the symptoms."""
    name, options = METHODS[method]
    draws = [features_of(folder, shots, seed) for seed in seeds]
    test = draws[0].test
    weights, chosen = resamples(test, len(seeds))
    figures, parts = {}, {}
    kinds = kinds_of(SymptomSet.load(SETS[folder.name]), SETS[folder.name], test.classes)
    for kind, symptoms in kinds.items():
        learners = [create_method(name, backbone(), symptoms, seed=seed, **options) for seed in seeds]
        errors = fit_all(learners, [(one.train, one.val) for one in draws])
        if any(errors):
            raise SystemExit(f"{folder.name}, {method}, {shots}: {next(filter(None, errors))}")
        tables = [one.predict_proba(test.plain) for one in learners]
        per_seed = [figures_on(table, test.labels.numpy(), weights) for table in tables]
        figures[kind] = {
            key: averaged(np.stack([found[key] for found in per_seed]), chosen) for key in FIGURES
        }
        if isinstance(learners[0], ViPWhitened):
            shares = [part_of_symptoms(one, test.plain) for one in learners if isinstance(one, ViPWhitened)]
            parts[kind] = float(np.mean(shares))
    return {
        "set": folder.name,
        "method": method,
        "options": options,
        "shots": shots,
        "seeds": seeds,
        "medvip": medvip.__version__,
        "kinds": {
            kind: {
                **{key: round(float(values[0]), 5) for key, values in found.items()},
                **{f"{key}_less_symptoms": less(values, figures[REAL][key]) for key, values in found.items()},
                "symptoms_part": parts.get(kind),
            }
            for kind, found in figures.items()
        },
    }


def less(values: np.ndarray, real: np.ndarray) -> list[float]:
    """The difference to the symptoms, and its interval."""
    found = paired_difference(float(values[0]), float(real[0]), values[1:], real[1:])
    return [round(end, 5) for end in (found.value, found.low, found.high)]


def resamples(test: Any, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of test images and of seeds in each resample; in the first all count once."""
    random = np.random.default_rng(1)
    images = group_weights(group_codes(test.groups, len(test.labels)), RESAMPLES, random)
    drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    images, drawn = (np.concatenate([np.ones((1, x.shape[1])), x]) for x in (images, drawn))
    return images, drawn


def averaged(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Of [seed, 1 + resample] the mean over each resample's seeds."""
    return (values.T * chosen).sum(1) / chosen.sum(1)


@cache
def backbone() -> Any:
    return medvip.load_backbone("embedded", device="cpu")


@cache
def features_of(folder: Path, shots: str, seed: int) -> Features:
    dataset = medvip.load_dataset(folder)
    if shots != "all":
        dataset = medvip.few_shot(dataset, int(shots), seed=seed)
    return medvip.compute_features(dataset, backbone(), quiet=True)


def part_of_symptoms(model: ViPWhitened, images: Any) -> float:
    """Of what tells the classes apart (variance over images and classes of the logits), the symptoms' part.

    The covariance of the symptoms' shares with the logit over its variance, both less their means over
    the classes and over the images: the parts of the symptoms and of g add up to 1.
    """
    state = model.state()
    seen = unit(rooted(images, state["image_power"])).numpy()
    factor = (state["class_scales"] / state["class_vectors"].norm(dim=-1)).numpy()
    of_symptoms = np.einsum(
        "cs,csd->cd", state["symptom_attention"].numpy(), state["symptom_vectors"].numpy()
    )
    shares, logits = (seen @ (factor[:, None] * v).T for v in (of_symptoms, state["class_vectors"].numpy()))
    shares, logits = (x - x.mean(1, keepdims=True) for x in (shares, logits))
    shares, logits = (x - x.mean(0) for x in (shares, logits))
    return round(float((shares * logits).sum() / (logits**2).sum()), 4)


def tables(cells: list[dict[str, Any]]) -> Iterator[str]:
    """Means over the sets; how many single differences have an interval without zero; and each of them."""
    shots = sorted({cell["shots"] for cell in cells}, key=lambda word: (word == "all", len(word), word))
    by_place = {(cell["set"], cell["method"], cell["shots"]): cell["kinds"] for cell in cells}
    methods = [method for method in METHODS if any(cell["method"] == method for cell in cells)]
    for method in methods:
        counts = sorted({len(cell["seeds"]) for cell in cells if cell["method"] == method})
        yield f"{method}: {' or '.join(map(str, counts))} seeds."
    yield "\nMean macro-F1, AUROC and part of the symptoms over the sets\n"
    yield "| method | texts | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 2) + "|"
    for method in methods:
        for kind in (REAL, *MADE):
            columns = []
            for word in shots:
                found = [
                    by_place[name, method, word][kind] for name in SETS if (name, method, word) in by_place
                ]
                found = found if len(found) == len(SETS) else []  # no means of some sets beside those of all
                keys = [k for k in (*FIGURES, "symptoms_part") if found and found[0][k] is not None]
                means = [f"{np.mean([one[k] for one in found]):.{2 if k[0] == 's' else 3}f}" for k in keys]
                columns.append(", ".join(means))
            yield f"| {method} | {kind} | " + " | ".join(columns) + " |"
    yield "\n| method | texts | figure | better than the symptoms | worse | of |\n|---|---|---|---|---|---|"
    for method in methods:
        for kind in (*MADE, *KNOWLEDGE):
            for figure in FIGURES:
                apart = [c["kinds"][kind] for c in cells if c["method"] == method and kind in c["kinds"]]
                apart = [one[f"{figure}_less_symptoms"] for one in apart]
                better, worse = sum(one[1] > 0 for one in apart), sum(one[2] < 0 for one in apart)
                yield f"| {method} | {kind} | {figure} | {better} | {worse} | {len(apart)} |"
    for figure in FIGURES:
        yield f"\n{figure} less that of the symptoms; bold where the interval does not hold zero\n"
        yield "| set | method | texts | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 3) + "|"
        for name in SETS:
            for method in methods:
                for kind in (*MADE, *KNOWLEDGE):
                    places = [by_place.get((name, method, word), {}).get(kind) for word in shots]
                    if any(places):
                        columns = [shown(place and place[f"{figure}_less_symptoms"]) for place in places]
                        yield f"| {name} | {method} | {kind} | " + " | ".join(columns) + " |"


def shown(difference: list[float] | None) -> str:
    """Value and interval."""
    if difference is None:
        return ""
    value, low, high = difference
    text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    return text if low <= 0 <= high else f"**{text}**"


if __name__ == "__main__":
    main()
