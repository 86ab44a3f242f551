"""What went wrong in a run, and whether a shortcut was at work: the numbers of docs/failures.md.

    python benchmarks/failures.py RUN DATA

For each cue (size, brightness) a logistic regression on that one number, learned on the training images,
says which class the cue points to. Test images whose cue points to their true class are put beside
those whose cue misleads: where a run leans on the cue, or on what goes with it, it does worse on the
latter. Then the ten surest failures, with what their symptoms said.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import medvip
from medvip.evaluation.benchmark.cues import CUES, cues_of
from medvip.evaluation.bootstrap import group_codes, group_weights, percentile_interval
from medvip.evaluation.ranking import auroc
from medvip.explanation.contributions import decision
from medvip.images import read_picture
from medvip.runs.report import gather_report
from medvip.types import ImageDataset

READ = 10
RESAMPLES = 1000


def cues_and_labels(part: ImageDataset, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    pictures = (read_picture(sample.path) for sample in part)
    cues = np.stack([np.append(cues_of(picture), dark_area(picture)) for picture in pictures])
    return cues, np.array([classes.index(sample.label) for sample in part])


def dark_area(picture: Image.Image) -> float:
    """Share of the centre square that is darker than Otsu's threshold: of a lesion on skin, its size."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.convert("L").crop((left, top, left + side, top + side)).resize((128, 128))
    grey = np.asarray(square)
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    below, mean = share.cumsum(), (share * np.arange(256)).cumsum()
    between = (mean[-1] * below - mean) ** 2 / np.maximum(below * (1 - below), 1e-12)
    return float((grey <= between.argmax()).mean())


def shortcuts(run: medvip.Run, dataset: ImageDataset, right: np.ndarray, lead: np.ndarray) -> dict[str, dict]:
    """For each cue: how well it does alone, and the run where it points right and where it misleads."""
    train, train_labels = cues_and_labels(dataset.only("train"), run.classes)
    test, labels = cues_and_labels(dataset.only("test"), run.classes)
    codes = group_codes([sample.group for sample in dataset.only("test")], len(labels))
    weights = group_weights(codes, RESAMPLES, np.random.default_rng(1))
    found = {}
    for number, cue in enumerate((*CUES, "dark area")):
        if any(np.ptp(test[labels == c, number]) == 0 for c in range(len(run.classes))):
            continue  # one value only in some class: there is nothing to go by
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit(train[:, [number]], train_labels)
        misled = model.predict(test[:, [number]]) != labels
        value = auroc(test[:, number], labels == 1, np.ones((1, len(labels))))[0]
        found[cue] = {
            "AUROC alone": round(max(value, 1 - value), 3),
            "balanced accuracy where it points right": _balanced(right, labels, ~misled, weights),
            "balanced accuracy where it misleads": _balanced(right, labels, misled, weights),
            "misled among failures": _share(misled[~right]),
            "misled among right images": _share(misled[right]),
            "rank correlation with the lead, within classes": {
                name: _rank_correlation(test[labels == c, number], lead[labels == c])
                for c, name in enumerate(run.classes)
            },
        }
    return found


def _balanced(right: np.ndarray, labels: np.ndarray, which: np.ndarray, weights: np.ndarray) -> str:
    """Mean over classes of the share that is right, of the images in `which`."""
    of_class = []
    for c in sorted(set(labels.tolist())):
        inside = which & (labels == c)
        total = np.r_[inside.sum(), weights[:, inside].sum(1)]
        hit = np.r_[(inside & right).sum(), weights[:, inside & right].sum(1)]
        of_class.append(np.where(total > 0, hit / np.maximum(total, 1), np.nan))
    value, *resampled = np.mean(of_class, axis=0)
    return f"{percentile_interval(float(value), np.array(resampled))} ({int(which.sum())} images)"


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(np.corrcoef(rankdata(one), rankdata(other))[0, 1]), 2)


def _share(which: np.ndarray) -> str:
    return f"{int(which.sum())} of {len(which)}"


def main() -> None:
    run, dataset = medvip.load_run(sys.argv[1]), medvip.load_dataset(sys.argv[2])
    report = gather_report(run, dataset, failures=10**6, pictures=False, quiet=True)
    right = report.probabilities.argmax(1) == report.labels
    logits = np.log(report.probabilities)
    lead = logits[:, 1] - logits[:, 0]  # of the second class
    features = medvip.compute_features(dataset, run.backbone, quiet=True)
    symptoms = np.array(
        [[part.of_symptoms for part in one.classes] for one in run.explain_table(features.test)]
    )
    by_symptoms = sum(decision(one.shares).symptoms_alone == one.truth for one in report.failures)
    found = {
        "images": len(right),
        "failures": report.failures_in_all,
        "failures that symptoms alone would have named rightly": by_symptoms,
        "reliance": report.reliance and report.reliance.in_words(),
        "rank correlation of the two classes' symptom parts over images": _rank_correlation(*symptoms.T[:2]),
        "lead of": run.classes[1],
        "shortcuts": shortcuts(run, dataset, right, lead),
    }
    print(json.dumps(found, indent=2))
    for place, one in enumerate(report.failures[:READ], start=1):
        print(f"\n{place}. {one.path}: {one.truth} taken for {one.prediction} ({one.confidence:.2f})")
        print(f"   {decision(one.shares).in_words()}")
        for part in one.shares:
            said = [f"{s.symptom} {s.share:+.2f} (above {s.percentile or 0:.0f} %)" for s in part.symptoms]
            print(f"   {part.class_name}: " + "; ".join(said))


if __name__ == "__main__":
    main()
