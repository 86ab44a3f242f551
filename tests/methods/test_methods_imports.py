"""Fitting on the embedded backbone imports nothing that takes seconds and is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FITS = """
import sys
sys.path.insert(0, sys.argv[1])
from small_models import embedded_with_any_map, made_up
from medvip import SymptomSet
from medvip.methods import create_method
backbone, classes = embedded_with_any_map(), ("blue", "red")
symptoms = SymptomSet.from_mapping({"blue": ["like the sky", "cold"], "red": ["like fire"]})
tables = [made_up(classes, 6, 1248, seed=seed) for seed in (1, 2)]
for name, options in (("vip", {"recipe": "fast"}), ("vip-whitened", {}), ("coop", {"recipe": "fast"})):
    create_method(name, backbone, symptoms, **options).fit(*tables)
print(*sorted({"transformers", "torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()))
"""


def test_no_fit_imports_transformers_or_torchs_compiler() -> None:
    command = [sys.executable, "-c", FITS, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
