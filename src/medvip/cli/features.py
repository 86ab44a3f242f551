"""``medvip features``: encode a data set ahead of time."""

from __future__ import annotations

from medvip.cli import options as o
from medvip.cli.console import complain, say


def features(
    data: o.Data,
    backbone: o.BackboneName = "embedded",
    views: o.Views = 0,
    crop: o.Crop = True,
    flip: o.Flip = True,
    views_seed: o.ViewsSeed = 1,
    split_file: o.SplitFile = None,
    split_seed: o.SplitSeed = 1,
    allow_leakage: o.AllowLeakage = False,
    skip_unreadable: o.SkipUnreadable = False,
    with_companions: o.WithCompanions = False,
    device: o.Device = "auto",
    quiet: o.Quiet = False,
) -> None:
    """Encode DATA's pictures and keep the vectors, so that every later fit starts at once.

    Example: medvip features images/ --backbone openai/clip-vit-base-patch16
    """
    import medvip
    from medvip.cache import cache_folder

    dataset = medvip.load_dataset(
        data,
        split_file=split_file,
        seed=split_seed,
        allow_leakage=allow_leakage,
        skip_unreadable=skip_unreadable,
        companions=with_companions,
    )
    for note in dataset.notes:
        complain(f"note: {note}")
    encoders = medvip.load_backbone(backbone, device=device)
    made = medvip.compute_features(
        dataset, encoders, augmentation=o.augmentation(views, crop, flip, views_seed), quiet=quiet
    )
    for split in ("train", "val", "test"):
        images, seen, dim = getattr(made, split).vectors.shape
        say(f"{split}: {images} images x {seen} views x {dim} numbers")
    say(f"kept in {cache_folder()}")
