# make demo: the method on drawn phantoms. make test: the tests. make check: style, types, layout.
# make bench: how fast it is here.
# Each makes .venv when it is missing or older than what decides it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check format bench clean

demo: .venv/ready
	$(BIN)/medvip demo --force

test: .venv/ready
	$(BIN)/python -m pytest -n 2

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_rooms.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Under three minutes; nothing but its JSON goes to the standard output.
bench:
	@$(MAKE) --silent .venv/ready >&2
	@$(BIN)/python benchmarks/speed/bench.py

# torch is installed first and by its exact version: a plain "torch" may pull gigabytes of CUDA.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medvip needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv/ready

clean:
	rm -rf .venv medvip-demo .pytest_cache .ruff_cache .hypothesis
