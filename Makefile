PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: quickstart install dev test test-all lint format clean

## Make the environment, search on the embedded data, print the frontier and where the report is.
quickstart: $(STAMP)
	$(BIN)/rps-search launch quickstart --storage runs/quickstart
	$(BIN)/rps-search report runs/quickstart

install: $(STAMP)
dev: $(DEV_STAMP)

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(DEV_STAMP): $(BIN)/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(STAMP)

## What CI runs: lint, types, tests.
test: lint
	$(BIN)/python -m pytest -m "not slow"

## The same and the tests that take minutes: clusters broken on purpose, kernels compiled.
test-all: lint
	$(BIN)/python -m pytest

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint clusters/docker/Dockerfile; fi

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
