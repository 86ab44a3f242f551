"""Are explanations true? The tables of docs/explanations.md, on phantoms, where truth is known.

    python benchmarks/faithfulness.py [--seeds 1 2 3] [--out benchmarks/results/faithfulness] [--seconds N]

For each seed, phantoms are drawn and ViP is trained with it. Asked of the test images, for ViP, for
symptoms without training (zero-shot) and for ViP with random prompts:

- does a symptom's score tell pictures in which it was drawn from those without (AUROC), among all and
  among pictures of one class;
- does a symptom's map point at what was drawn;
- how much of the decisions rests on the class vectors;
- what happens when a symptom is taken away, against its stated share;
- does the prediction fall when places are blurred away in the order of the maps (deletion), and rise when
  they are brought back (insertion), sooner than in random order;
- how alike are the maps of the trained and of the random prompts.

One JSON file a seed, and one for its curves; what is there is not computed again. With
--seconds it stops with the first file that is finished after that time. The table is made from the files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medvip
from medvip.atomic import write_atomically
from medvip.evaluation.bootstrap import group_codes, group_weights
from medvip.evaluation.ranking import auroc
from medvip.explanation import LogitParts, leave_one_out, parts_of, reliance
from medvip.explanation.explaining import require_spatial
from medvip.explanation.faithfulness import (
    along_order,
    area_under,
    auroc_within,
    blurred,
    highest_first,
    places_inside,
    places_touched,
    points_at,
    with_random_prompts,
)
from medvip.explanation.maps import joined, share_maps
from medvip.features import FeatureTable
from medvip.images import read_picture
from medvip.methods import Method, ViP, create_method
from medvip.phantoms import SYMPTOMS, draw_phantoms

# Which symptom of the ready-made set speaks of what was drawn, and whether of its presence.
MEANS = {
    "round shape with two equal halves": ("asymmetric", False),
    "smooth, even outline all the way around": ("jagged_edge", False),
    "one single uniform brown color": ("several_colours", False),
    "plain, clean surface inside": ("dark_dots", False),
    "lopsided shape with two unequal halves": ("asymmetric", True),
    "jagged, uneven outline": ("jagged_edge", True),
    "several colors mixed: brown, black, red, blue": ("several_colours", True),
    "dark dots scattered inside": ("dark_dots", True),
}
GRID, STEPS, RESAMPLES = (7, 7), 7, 400
"""All maps are asked on the grid of the last stage, where symptoms are; finer ones are added up on it."""
MODELS = ("vip", "zero-shot-symptoms", "random prompts")
ORDERS = ("map", "symptom maps alone", "random")


class Material:
    """What one seed's questions are asked of."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = draw_phantoms(folder, seed=seed)
        dataset = medvip.load_dataset(self.folder)
        self.backbone = medvip.load_backbone("embedded")
        self.symptoms = medvip.SymptomSet.load("phantoms")
        features = medvip.compute_features(dataset, self.backbone, quiet=True)
        self.test: FeatureTable = features.test
        run = folder.with_name(f"run_{seed}")
        if not run.exists():
            medvip.fit(dataset, self.backbone, self.symptoms, seed=seed, out=run, quiet=True)
        vip = medvip.load_run(run, backbone=self.backbone).method
        zero_shot = create_method("zero-shot-symptoms", self.backbone, self.symptoms)
        zero_shot.fit(features.train, features.val)
        assert isinstance(vip, ViP)
        self.methods: dict[str, Any] = {
            "vip": vip,
            "zero-shot-symptoms": zero_shot,
            "random prompts": with_random_prompts(vip, 1000 + seed),
        }
        truth = json.loads((self.folder / "truth.json").read_text(encoding="utf-8"))
        by_path = {str(self.folder / entry["path"]): entry for entry in truth["images"]}
        self.train, self.truth_of_train = features.train, [by_path[path] for path in features.train.paths]
        self.truth = [by_path[path] for path in self.test.paths]
        self.pixels = torch.stack([self.backbone.preprocess(read_picture(path)) for path in self.test.paths])
        spatial = require_spatial(self.backbone)
        self.grids = spatial.encode_places(self.pixels)
        size = truth["size"]
        self.box = spatial.seen_box(size, size)
        weights = group_weights(
            group_codes(self.test.groups, len(self.test)), RESAMPLES, np.random.default_rng(1)
        )
        self.weights = np.concatenate([np.ones((1, len(self.test))), weights])

    def columns(self) -> Iterator[tuple[str, int, int, str, bool]]:
        """Each symptom's text, where it stands in the tensors, and what it speaks of."""
        classes = self.test.classes
        for c, texts in enumerate(self.symptoms.for_classes(classes)):
            for i, text in enumerate(texts):
                yield text, c, i, *MEANS[text]

    def drawn(self, what: str) -> np.ndarray:
        return np.array([entry["symptoms"][what] for entry in self.truth])


def maps_of(made: Material, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Of the symptoms and of the class vectors, on `GRID`."""
    found = share_maps(made.grids, parts_of(method))
    of_both = (joined([one[part] for one in found]) for part in (0, 1))
    of_symptoms, of_class_vector = (
        torch.nn.functional.avg_pool2d(maps.flatten(0, -3), maps.shape[-1] // GRID[0], divisor_override=1)
        .view(*maps.shape[:-2], *GRID)
        .numpy()
        for maps in of_both
    )
    return of_symptoms, of_class_vector


# One value for each resample; the first is of the images as they are.
Resampled = Float[np.ndarray, "resample"]


def figure(resampled: Resampled) -> dict[str, Any]:
    """With the resamples, so that seeds can be averaged resample by resample."""
    return {"value": float(resampled[0]), "resamples": [round(float(x), 4) for x in resampled[1:]]}


def mean_over_images(values: np.ndarray, weights: np.ndarray) -> Resampled:
    """Of images for which the value is defined."""
    known = ~np.isnan(values)
    below = weights[:, known].sum(1)
    return np.where(below > 0, weights[:, known] @ values[known] / np.maximum(below, 1), np.nan)


def truth_of_scores(made: Material, parts: LogitParts) -> dict[str, Any]:
    """AUROC of each symptom's similarity against what was drawn."""
    scores = parts.similarities(made.test.plain).numpy()
    labels = made.test.labels.numpy()
    of_each: dict[str, Any] = {}
    overall, within = [], []
    for text, c, i, what, presence in made.columns():
        positive = made.drawn(what) if presence else ~made.drawn(what)
        overall.append(auroc(scores[:, c, i], positive, made.weights))
        within.append(auroc_within(scores[:, c, i], positive, labels, made.weights))
        of_each[text] = {"auroc": figure(overall[-1]), "auroc_within_class": figure(within[-1])}
    return {
        "symptoms": of_each,
        "mean_auroc": figure(np.mean(overall, axis=0)),
        "mean_auroc_within_class": figure(np.mean(within, axis=0)),
    }


def truth_of_class_logits(made: Material, method: Method) -> dict[str, Any]:
    """What whoever knows only the class would get: the probability of suspicious as every symptom's score."""
    suspicious = method.predict_proba(made.test.plain)[:, made.test.classes.index("suspicious")]
    labels, overall, within = made.test.labels.numpy(), [], []
    for _, _, _, what, presence in made.columns():
        if presence:
            overall.append(auroc(suspicious, made.drawn(what), made.weights))
            within.append(auroc_within(suspicious, made.drawn(what), labels, made.weights))
    return {
        "mean_auroc": figure(np.mean(overall, axis=0)),
        "mean_auroc_within_class": figure(np.mean(within, axis=0)),
    }


def pointing(made: Material, maps: np.ndarray) -> dict[str, Any]:
    """How often the maps of the symptoms that were drawn point at them, and how often chance would."""
    values: dict[str, list[np.ndarray]] = {"accuracy": [], "chance": [], "chance_in_lesion": []}
    of_each: dict[str, Any] = {}
    for text, c, i, what, presence in made.columns():
        if not presence:
            continue
        rows = {name: np.full(len(made.truth), np.nan) for name in values}
        for image, entry in enumerate(made.truth):
            if not entry["symptoms"][what]:
                continue
            touched = places_touched(made.box, GRID, [tuple(disc) for disc in entry["marks"][what]])
            lesion = places_inside(made.box, GRID, np.array(entry["outline"]))
            rows["accuracy"][image] = points_at(maps[image, c, i], touched)
            rows["chance"][image] = touched.mean()
            rows["chance_in_lesion"][image] = touched[lesion].mean()
        for name, found in rows.items():
            values[name].append(mean_over_images(found, made.weights))
        of_each[text] = {name: figure(found[-1]) for name, found in values.items()}
    return {"symptoms": of_each, **{f"mean_{n}": figure(np.mean(v, axis=0)) for n, v in values.items()}}


def pointing_of_decision(made: Material, method: Method) -> dict[str, Any]:
    """A control: whether the map of suspicious less harmless points at anything that was drawn."""
    of_symptoms, of_class_vector = maps_of(made, method)
    of_classes = of_symptoms.sum(2) + of_class_vector
    suspicious = made.test.classes.index("suspicious")
    rows = {name: np.full(len(made.truth), np.nan) for name in ("accuracy", "chance", "chance_in_lesion")}
    for image, entry in enumerate(made.truth):
        if entry["label"] == "suspicious":
            discs = [tuple(disc) for discs in entry["marks"].values() for disc in discs]
            touched = places_touched(made.box, GRID, discs)
            lesion = places_inside(made.box, GRID, np.array(entry["outline"]))
            lead = of_classes[image, suspicious] - of_classes[image, 1 - suspicious]
            rows["accuracy"][image] = points_at(lead, touched)
            rows["chance"][image] = touched.mean()
            rows["chance_in_lesion"][image] = touched[lesion].mean()
    return {name: figure(mean_over_images(found, made.weights)) for name, found in rows.items()}


def probe_of_what_was_drawn(made: Material) -> dict[str, Any]:
    """A control: a logistic regression that is shown on training images what was drawn. Not a method."""
    overall = []
    vectors = [torch.nn.functional.normalize(t.plain, dim=-1).numpy() for t in (made.train, made.test)]
    for what in SYMPTOMS:
        learned = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        learned.fit(vectors[0], [entry["symptoms"][what] for entry in made.truth_of_train])
        overall.append(auroc(learned.decision_function(vectors[1]), made.drawn(what), made.weights))
    return {"mean_auroc": figure(np.mean(overall, axis=0))}


def taking_away(made: Material, method: Method) -> dict[str, Any]:
    """Each symptom taken away: what it did to its class's logit, against its stated share."""
    found = leave_one_out(method, made.test)
    agreements = [one.agreement for one in found if one.agreement is not None]
    stated, effects = np.array([one.stated for one in found]), np.array([one.effect for one in found])
    return {
        "symptoms": {
            one.symptom: {
                "stated": one.stated,
                "effect": one.effect,
                "agreement": one.agreement,
                "changed": one.changed,
            }
            for one in found
        },
        "mean_agreement_over_images": float(np.mean(agreements)),
        "agreement_over_symptoms": float(np.corrcoef(stated, effects)[0, 1]),
        "images": len(made.test),
        "mean_changed": float(np.mean([one.changed for one in found])),
        "largest_changed": max(one.changed for one in found),
    }


def likeness_of_maps(first: np.ndarray, second: np.ndarray) -> float:
    """Mean rank correlation between two models' maps of the same symptom of the same picture."""
    ranked = (rankdata(maps.reshape(-1, 49), axis=1) for maps in (first, second))
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(*ranked, strict=True)]))


def locality(made: Material) -> dict[str, float]:
    """How local a place's vector is: with one place blurred, where the feature map changes."""
    random = np.random.default_rng(made.seed)
    own, around = [], []
    for image, (picture, instead) in enumerate(zip(made.pixels, blurred(made.pixels), strict=True)):
        for place in random.choice(49, size=4, replace=False):
            order = np.r_[place, np.delete(np.arange(49), place)]
            changed = along_order(picture, instead, order, GRID, 49)[1:2]  # the first place alone
            after = require_spatial(made.backbone).encode_places(changed)[-1][0]
            change = (after - made.grids[-1][image]).double().square().sum(-1).numpy()
            row, column = divmod(int(place), 7)
            near = change[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            own.append(change[row, column] / change.sum())
            around.append(near.sum() / change.sum())
    return {"own_place": float(np.mean(own)), "own_and_neighbours": float(np.mean(around))}


def truths(made: Material) -> dict[str, Any]:
    """All questions of one seed that need no further encoding."""
    out: dict[str, Any] = {"seed": made.seed, "test_images": len(made.test), "models": {}}
    maps = {}
    for name, method in made.methods.items():
        parts = parts_of(method)
        maps[name] = maps_of(made, method)[0]
        right = method.predict_proba(made.test.plain).argmax(1) == made.test.labels.numpy()
        out["models"][name] = {
            "accuracy": figure(mean_over_images(right.astype(float), made.weights)),
            "scores": truth_of_scores(made, parts),
            "class_logit_as_score": truth_of_class_logits(made, method),
            "pointing": pointing(made, maps[name]),
            "pointing_of_decision": pointing_of_decision(made, method),
            "taking_away": taking_away(made, method),
        }
        if parts.has_class_vector:
            found = reliance(made.test.plain, parts, made.test.labels.numpy(), made.test.groups)
            out["models"][name]["reliance"] = found.to_json()
    out["probe_of_what_was_drawn"] = probe_of_what_was_drawn(made)
    out["locality"] = locality(made)
    out["likeness_of_maps"] = {
        name: likeness_of_maps(maps["vip"], maps[name]) for name in ("zero-shot-symptoms", "random prompts")
    }
    return out


def orders_of(made: Material, name: str, predicted: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Places of each image, by the map of what it was predicted as less the other classes', highest first."""
    parts = parts_of(made.methods[name])
    of_symptoms, of_class_vector = maps_of(made, made.methods[name])
    by_source = {"map": of_symptoms.sum(2) + of_class_vector, "symptom maps alone": of_symptoms.sum(2)}
    if not parts.has_class_vector:
        del by_source["symptom maps alone"]  # they are the map
    found = {}
    for source, of_classes in by_source.items():
        lead = [
            one[top] - np.delete(one, top, 0).mean(0) for one, top in zip(of_classes, predicted, strict=True)
        ]
        found[source] = [highest_first(values) for values in lead]
    return found


def curves(made: Material) -> dict[str, Any]:
    """Deletion and insertion: area under the probability of what was predicted, along each order.

    All models share the random orders. Inserting along a random order is deleting along the reverse,
    which is random too, so one path serves both.
    """
    soft, random = blurred(made.pixels), np.random.default_rng(made.seed)
    vectors = torch.cat([grid.mean((1, 2)) for grid in made.grids], 1)
    predicted = {name: method.predict_proba(vectors).argmax(1) for name, method in made.methods.items()}
    orders = {name: orders_of(made, name, predicted[name]) for name in MODELS}
    areas: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {how: {order: [] for order in [*orders[name], "random"]} for how in ("deletion", "insertion")}
        for name in MODELS
    }
    for image, (picture, instead) in enumerate(zip(made.pixels, soft, strict=True)):
        keys, paths = [("", "random", "deletion")], [(picture, instead, random.permutation(49))]
        for name in MODELS:
            for order, places in orders[name].items():
                keys += [(name, order, "deletion"), (name, order, "insertion")]
                paths += [(picture, instead, places[image]), (instead, picture, places[image])]
        along = torch.cat([along_order(a, b, places, GRID, STEPS)[1:-1] for a, b, places in paths])
        ends = made.backbone.encode_images(torch.stack([picture, instead]))
        inner = made.backbone.encode_images(along).unflatten(0, (len(paths), STEPS - 1))
        for (owner, order, how), between in zip(keys, inner, strict=True):
            first, last = ends if how == "deletion" else ends.flip(0)
            path = torch.cat([first[None], between, last[None]])
            for name in MODELS if order == "random" else (owner,):
                curve = made.methods[name].predict_proba(path)[:, predicted[name][image]]
                areas[name][how][order].append(float(area_under(curve)))
                if order == "random":
                    areas[name]["insertion"][order].append(float(area_under(curve[::-1])))
    out: dict[str, Any] = {}
    for name, how in ((name, how) for name in MODELS for how in ("deletion", "insertion")):
        by_order = {order: np.array(values) for order, values in areas[name][how].items()}
        made_of = {o: figure(mean_over_images(values, made.weights)) for o, values in by_order.items()}
        for order in orders[name]:
            gain = mean_over_images(by_order[order] - by_order["random"], made.weights)
            made_of[f"{order} - random"] = figure(gain)
        out.setdefault(name, {})[how] = made_of
    return out


# The table -----------------------------------------------------------------------------------


def over_seeds(figures: list[dict[str, Any]]) -> str:
    """Mean over the seeds, with the middle 95 % of the same mean over resamples of each seed's patients."""
    value = np.mean([one["value"] for one in figures])
    resampled = np.mean([one["resamples"] for one in figures], axis=0)
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def table(folder: Path) -> str:
    """Markdown from all files of the folder."""
    seeds = [json.loads(file.read_text()) for file in sorted(folder.glob("seed_?.json"))]
    if not seeds:
        return "nothing measured yet\n"
    numbers = ", ".join(str(one["seed"]) for one in seeds)
    images = " / ".join(str(one["test_images"]) for one in seeds)
    lines = [
        f"Phantoms of seeds {numbers} ({images} test images); mean over the seeds, "
        "95 % bootstrap intervals over patients.",
        "",
        "| measured | " + " | ".join(MODELS) + " | chance |",
        "|---|" + "---|" * (len(MODELS) + 1),
    ]

    def row(title: str, pick: Callable[[dict[str, Any]], Any], chance: str) -> None:
        cells = [over_seeds([pick(one["models"][name]) for one in seeds]) for name in MODELS]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {chance} |")

    def chance(name: str) -> str:
        return over_seeds([one["models"]["vip"]["pointing"][name] for one in seeds])

    row("accuracy", lambda m: m["accuracy"], "0.5")
    row("symptom AUROC, mean of 8", lambda m: m["scores"]["mean_auroc"], "0.5")
    row("the same within a class", lambda m: m["scores"]["mean_auroc_within_class"], "0.5")
    row(
        "class probability as every symptom's score", lambda m: m["class_logit_as_score"]["mean_auroc"], "0.5"
    )
    row("the same within a class", lambda m: m["class_logit_as_score"]["mean_auroc_within_class"], "0.5")
    row(
        "pointing, mean of 4",
        lambda m: m["pointing"]["mean_accuracy"],
        f"{chance('mean_chance')}; in the lesion {chance('mean_chance_in_lesion')}",
    )
    decision = [one["models"]["vip"]["pointing_of_decision"] for one in seeds]
    in_lesion = over_seeds([one["chance_in_lesion"] for one in decision])
    row(
        "map of suspicious less harmless points at anything drawn",
        lambda m: m["pointing_of_decision"]["accuracy"],
        f"{over_seeds([one['chance'] for one in decision])}; in the lesion {in_lesion}",
    )
    probe = over_seeds([one["probe_of_what_was_drawn"]["mean_auroc"] for one in seeds])
    lines += [
        "",
        "For comparison, a logistic regression on the image vectors that is shown on training images what "
        f"was drawn: AUROC {probe}, mean of 4.",
    ]
    lines += [
        "",
        "| symptom | " + " | ".join(f"AUROC, {name}" for name in MODELS) + " |",
        "|---|" + "---|" * 3,
    ]
    for text in seeds[0]["models"]["vip"]["scores"]["symptoms"]:
        cells = [
            over_seeds([one["models"][name]["scores"]["symptoms"][text]["auroc"] for one in seeds])
            for name in MODELS
        ]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    lines += ["", "| taken away | " + " | ".join(MODELS) + " |", "|---|" + "---|" * 3]
    for title, key in {
        "correlation of effect and stated share over images": "mean_agreement_over_images",
        "the same over symptoms": "agreement_over_symptoms",
        "images predicted otherwise, mean": "mean_changed",
        "images predicted otherwise, most": "largest_changed",
    }.items():
        cells = []
        for name in MODELS:
            values = [one["models"][name]["taking_away"][key] for one in seeds]
            spread = f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            cells.append(spread)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| what rests on the class vectors | vip | random prompts |", "|---|---|---|"]
    for title, key in {
        "part of the lead": "part_of_lead",
        "part of what tells images apart": "part_of_spread",
        "same class by symptoms alone": "same_by_symptoms",
        "accuracy of symptoms alone": "accuracy_of_symptoms",
        "accuracy of class vectors alone": "accuracy_of_class_vectors",
    }.items():
        cells = []
        for name in ("vip", "random prompts"):
            values = [one["models"][name]["reliance"][key]["value"] for one in seeds]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    alike = {name: np.mean([one["likeness_of_maps"][name] for one in seeds]) for name in MODELS[1:]}
    lines += ["", "Rank correlation of ViP's symptom maps with those of " + "; ".join(
        f"{name}: {value:.2f}" for name, value in alike.items()) + "."]  # fmt: skip
    own, near = (
        np.mean([one["locality"][key] for one in seeds]) for key in ("own_place", "own_and_neighbours")
    )
    lines += [
        "",
        f"One place blurred: {100 * own:.0f} % of the last stage's squared change is at that place, "
        f"{100 * near:.0f} % there and at the places around it.",
    ]
    return "\n".join([*lines, *_curve_table(folder), ""])


def _curve_table(folder: Path) -> list[str]:
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("curves_?.json"))]
    if not found:
        return []
    lines = ["", "| area under the curve | " + " | ".join(MODELS) + " |", "|---|" + "---|" * 3]
    for how in ("deletion", "insertion"):
        for order in (*ORDERS, "map - random", "symptom maps alone - random"):
            cells = [
                over_seeds([one[name][how][order] for one in found]) if order in found[0][name][how] else "-"
                for name in MODELS
            ]
            lines.append(f"| {how}, {order} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "faithfulness")
    parser.add_argument(
        "--phantoms", type=Path, help="folder for phantoms and runs; a temporary one if not given"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        for seed in given.seeds:
            jobs: dict[Path, Callable[[Material], dict[str, Any]]] = {given.out / f"seed_{seed}.json": truths}
            jobs[given.out / f"curves_{seed}.json"] = curves
            jobs = {file: job for file, job in jobs.items() if not file.exists()}
            if not jobs:
                continue
            made = Material(seed, (given.phantoms or Path(temporary)) / f"phantoms_{seed}")
            for file, job in jobs.items():
                write_atomically(file, json.dumps(job(made)) + "\n")
                print(f"{file.name}: {time.monotonic() - started:.0f} s", flush=True)
                if time.monotonic() - started > given.seconds:
                    return
    text = table(given.out)
    write_atomically(given.out / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
