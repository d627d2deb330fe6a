# vodsync: `make demo` shows it, `make test` proves it. Needs Python 3.11 or newer and a package registry, nothing else.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo check test matrix chaos fuzz mutation lint bench lock clean

help:
	@echo "make demo    see it work on this machine, with an emulated VOD"
	@echo "make check   style, types and unit tests, for the time between two edits; needs no server"
	@echo "make test    run all tests; those that need a server skip where it does not run"
	@echo "make matrix  kill, cut and freeze at each commit that matters, on every pair of database and broker"
	@echo "make chaos   random faults under load for MINUTES (1) on each pair of database and broker, from SEED"
	@echo "make lint    style and types"
	@echo "make fuzz    try the properties of tests/fuzz with many odd inputs, about two minutes long"
	@echo "make mutation  change one place of a core module at a time, and list what no test notices; MODULES, SAMPLES (20), SEED"
	@echo "make bench   the measurements of the README, as a table"
	@echo "make lock    pin the newest dependencies that fit pyproject.toml"

demo: .venv/runtime
	@$(BIN)/vodsync demo

check: lint
	$(BIN)/python -m pytest -n auto tests/unit

test: .venv/development
	$(BIN)/python -m pytest -n 4

matrix: .venv/development
	VODSYNC_TEST_WHOLE_MATRIX=1 $(BIN)/python -m pytest -n 3 tests/system/test_fault_matrix.py tests/system/test_rolling_upgrade.py

chaos: .venv/development
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(PAIR),--pair $(PAIR))

lint: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: .venv/development
	$(BIN)/python -m pytest -n 2 --hypothesis-profile fuzz tests/fuzz

mutation: .venv/development
	$(BIN)/python -m tests.mutation $(MODULES) $(if $(SAMPLES),--samples $(SAMPLES)) $(if $(SEED),--seed $(SEED))

bench: .venv/development
	$(BIN)/python -m benchmarks

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vodsync needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python requirements.lock pyproject.toml
	@echo "setting up .venv (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/development: .venv/runtime requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements-dev.lock
	@touch $@

lock:
	uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --upgrade --quiet --custom-compile-command "make lock" --output-file requirements.lock
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --upgrade --quiet --custom-compile-command "make lock" --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
