"""The form of a MedMNIST archive: ``{train,val,test}_{images,labels}`` in one ``.npz``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medvip.errors import DataError
from medvip.images.arrays import address, array_names, load_array, require_pictures
from medvip.images.reading import Reading
from medvip.types import SPLITS, Sample, Split

_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

# Class names as MedMNIST publishes them (Yang et al., Scientific Data 2023); the archives hold
# numbers only. RetinaMNIST's published names are bare numbers, so it goes without.
PUBLISHED_CLASSES: dict[str, tuple[str, ...]] = {
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "breastmnist": ("malignant", "normal, benign"),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule",
        "Distal Convoluted Tubule",
        "Glomerular endothelial cells",
        "Interstitial endothelial cells",
        "Leukocytes",
        "Podocytes",
        "Proximal Tubule Segments",
        "Thick Ascending Limb",
    ),
}


def read_medmnist(file: Path) -> Reading:
    """Read an archive with MedMNIST's keys.

    Class names come from ``<name>.classes.json`` beside the archive (a list, in the order of
    the class numbers) when there is one, else from the published names when the file's name
    begins like a MedMNIST set's, else they are "class 0", "class 1"...

    Raises
    ------
    DataError
        When the archive has other keys, several labels an image, or labels without a name.
    """
    location = file.as_posix()
    there = array_names(location)
    splits: list[Split] = [split for split in SPLITS if f"{split}_images" in there]
    if not splits:
        raise DataError(
            f"{file} is not a MedMNIST archive: its arrays are {', '.join(there) or 'none'}",
            fix="it needs train_images, train_labels, val_images, ... [image, height, width(, 3)] of uint8",
        )
    numbers = {split: _labels(location, split) for split in splits}
    names, note = _class_names(file)
    if names is not None:
        beyond = max(int(labels.max(initial=0)) for labels in numbers.values())
        if beyond >= len(names):
            raise DataError(
                f"{file} has a class number {beyond}, but only {len(names)} class names are known",
                fix=f"list the names of all classes in {_sidecar(file)}",
            )
    samples = [
        Sample(
            address(location, f"{split}_images", index),
            names[number] if names else f"class {number}",
            split=split,
        )
        for split in splits
        for index, number in enumerate(numbers[split].tolist())
    ]
    return Reading(samples, [note])


def _labels(location: str, split: Split) -> np.ndarray:
    """Class numbers [image] of one split, checked against its pictures."""
    pictures = load_array(location, f"{split}_images")
    require_pictures(pictures, location, f"{split}_images")
    labels = load_array(location, f"{split}_labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{location}#{split}_labels has several labels an image",
            fix="use a set with one label an image; several at once are not supported",
        )
    if len(labels) != len(pictures):
        raise DataError(
            f"{location} has {len(pictures)} {split} images and {len(labels)} {split} labels",
            fix="give each image one label",
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise DataError(
            f"{location}#{split}_labels are not class numbers", fix="number the classes from 0 up"
        )
    return labels


def _class_names(file: Path) -> tuple[tuple[str, ...] | None, str]:
    sidecar = _sidecar(file)
    if sidecar.is_file():
        try:
            names = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"{sidecar} cannot be read as JSON: {error}", fix="write a list of names"
            ) from error
        good = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
        if not good or len(set(names)) < len(names):
            raise DataError(
                f"{sidecar} is not a list of different class names",
                fix='write a list in the order of the class numbers, such as ["normal", "pneumonia"]',
            )
        return tuple(names), f"class names read from {sidecar.name}"
    for name, names in PUBLISHED_CLASSES.items():
        if file.name.casefold().startswith(name):
            return names, f"class names as published for {name} (the archive holds numbers only)"
    return None, (
        f"class names are not known: called 'class 0', 'class 1' and so on (name them in {sidecar.name})"
    )


def _sidecar(file: Path) -> Path:
    return file.with_suffix(".classes.json")
