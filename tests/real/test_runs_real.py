"""The whole way on real images, at the figures that the project promises."""

from __future__ import annotations

import csv

import pytest

import medvip
from medvip.cli.main import main

PROMISED = {
    "kermany_cxr_pneumonia": ("paediatric-pneumonia", {"accuracy": 0.94, "auroc": 0.985}),
    "isic_uda1_melanoma_nevus": ("melanoma-nevus", {"auroc": 0.74}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_figures(real_data, tmp_path, name):
    symptoms, promised = PROMISED[name]
    run, data = tmp_path / "run", real_data / name
    assert main(["fit", str(data), "--symptoms", symptoms, "--out", str(run), "--seed", "1", "--quiet"]) == 0
    loaded = medvip.load_run(run)
    figures = {key: loaded.metrics["test"][key]["value"] for key in promised}
    assert all(figures[key] >= promised[key] for key in promised), figures
    # The saved run, measured and used again, is the same classifier.
    again = loaded.evaluate(medvip.load_dataset(data), quiet=True).to_json()
    assert again == loaded.metrics["test"]
    table = tmp_path / "predictions.csv"
    test = [sample for sample in medvip.load_dataset(data) if sample.split == "test"]
    paths = [sample.path for sample in test]
    assert main(["predict", str(run), *paths, "--out", str(table), "--quiet"]) == 0
    with table.open(newline="") as file:
        predicted = {row["path"]: row["prediction"] for row in csv.DictReader(file)}
    right = sum(predicted[sample.path] == sample.label for sample in test)
    assert right / len(test) == loaded.metrics["test"]["accuracy"]["value"]
