"""Other texts in the place of the symptoms under `vip-whitened`: test images, one JSON line a run.

    python benchmarks/better/symptoms_worth.py DATA OUT.jsonl [--shots 1 4 16 all] [--seeds 1 2 3]
    python benchmarks/better/symptoms_worth.py DATA OUT.jsonl --table

Kinds, each with as many texts a class as there are symptoms: the symptoms; the symptoms of the next class
(what is said is right for another one); the class's name in four templates; random words, with as many
words as each symptom; and food, useless and opposite texts (docs/knowledge-kinds.md) for the two sets that
have them. Everything else is equal: images drawn, settings (no context prompt, so that nothing but the
texts differs). `symptom_penalty` 0.3 is the default; at 0.03 symptoms carry several times as much.
What is in OUT.jsonl is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from material import SETS, figures

import medvip
from medvip.images.order import shuffled
from medvip.methods import ViPWhitened
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
KINDS = ("symptoms", "next class's", "class names", "random words", "out-of-domain", "useless", "opposite")
PENALTIES = (0.3, 0.03)


def texts(symptoms: SymptomSet, name: str, classes: tuple[str, ...]) -> dict[str, SymptomSet]:
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
        "symptoms": symptoms,
        "next class's": SymptomSet.from_mapping({c: list(own[following[c]]) for c in classes}),
        "class names": SymptomSet.from_mapping(named),
        "random words": SymptomSet.from_mapping(random),
    }
    if name in ("paediatric-pneumonia", "melanoma-nevus"):
        made |= {kind: one for kind, one in knowledge_variants(symptoms).items() if kind != "symptoms"}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shots", nargs="+", default=["1", "4", "16", "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--table", action="store_true", help="only show what is there")
    given = parser.parse_args()
    if not given.table:
        run(given)
    show([json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()])


def run(given: argparse.Namespace) -> None:
    """Whatever is not there yet."""
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    names = ("set", "kind", "symptom_penalty", "shots", "seed")
    there = {tuple(json.loads(line)[name] for name in names) for line in lines}
    backbone = medvip.load_backbone("embedded", device="cpu")
    with given.out.open("a", encoding="utf-8") as out:
        for folder, symptom_name in SETS.items():
            dataset, features = medvip.load_dataset(given.data / folder), {}
            symptoms = SymptomSet.load(symptom_name)
            for kind, one in texts(symptoms, symptom_name, dataset.classes).items():
                for penalty in PENALTIES:
                    for shots in given.shots:
                        for seed in given.seeds if shots != "all" else given.seeds[:1]:
                            key = (folder, kind, penalty, shots, seed)
                            if key in there:
                                continue
                            if (shots, seed) not in features:
                                few = (
                                    dataset
                                    if shots == "all"
                                    else medvip.few_shot(dataset, int(shots), seed=seed)
                                )
                                features[shots, seed] = medvip.compute_features(few, backbone)
                            tables = features[shots, seed]
                            model = ViPWhitened(backbone, one, context=0, symptom_penalty=penalty)
                            model.fit(tables.train, tables.val)
                            line = dict(zip(names, key, strict=True))
                            line |= figures(model.predict_proba(tables.test.plain), tables.test)
                            line["symptoms_part"] = part_of_symptoms(model, tables.test.plain)
                            out.write(json.dumps(line) + "\n")
                            out.flush()


def part_of_symptoms(model: ViPWhitened, images) -> float:
    """Of what tells the classes apart (variance over images and classes of the logits), the symptoms' part.

    The covariance of the symptoms' shares with the logit over its variance, both less their means over
    the classes and over the images: the parts of the symptoms and of g add up to 1.
    """
    from medvip.methods.vectors import rooted, unit

    state = model.state()
    seen = unit(rooted(images, state["image_origin"], state["image_power"])).numpy()
    factor = (state["class_scales"] / state["class_vectors"].norm(dim=-1)).numpy()
    of_symptoms = np.einsum(
        "cs,csd->cd", state["symptom_attention"].numpy(), state["symptom_vectors"].numpy()
    )
    shares, logits = (seen @ (factor[:, None] * v).T for v in (of_symptoms, state["class_vectors"].numpy()))
    shares, logits = (x - x.mean(1, keepdims=True) for x in (shares, logits))
    shares, logits = (x - x.mean(0) for x in (shares, logits))
    return round(float((shares * logits).sum() / (logits**2).sum()), 4)


def show(lines: list[dict]) -> None:
    """Means over seeds and sets."""
    cells = defaultdict(lambda: defaultdict(list))
    for line in lines:
        value = (line["macro_f1"], line["auroc"], line["symptoms_part"])
        cells[line["symptom_penalty"], line["kind"], line["shots"]][line["set"]].append(value)
    shots = sorted({key[2] for key in cells}, key=lambda word: (word == "all", len(word), word))
    for kinds, title in ((KINDS[:4], "five sets"), (KINDS, "the two sets that have all kinds")):
        print(f"\n{title}: macro-F1, AUROC, part of the symptoms\n")
        print("| symptom_penalty | texts | " + " | ".join(shots) + " |\n" + "|---" * (len(shots) + 2) + "|")
        for penalty in PENALTIES:
            for kind in kinds:
                columns = []
                for word in shots:
                    found = cells[penalty, kind, word]
                    if kinds == KINDS:
                        found = {k: v for k, v in found.items() if k in list(SETS)[:2]}
                    mean = np.mean([np.mean(v, 0) for v in found.values()], 0)
                    columns.append("{:.3f}, {:.3f}, {:.2f}".format(*mean))
                print(f"| {penalty} | {kind} | " + " | ".join(columns) + " |")


if __name__ == "__main__":
    main()
