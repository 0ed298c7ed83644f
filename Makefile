# The commands a person needs. Each makes the environment that it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint bench fuzz clean

help:  ## Show the commands.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/.base  ## Run the main job: a real batch, overtaken by urgent requests.
	@$(BIN)/python -m examples.demo

test: $(VENV)/.dev  ## Run all the tests.
	$(BIN)/python -m pytest

lint: $(VENV)/.dev  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## Measure, as ratios to peers in the same run.
	$(BIN)/python -m tests.benchmarks

fuzz: $(VENV)/.dev  ## Send mutated frames for a while: make fuzz SECONDS=600 SEED=…
	$(BIN)/python -m tests.support.fuzz $(or $(SECONDS),60) $(SEED)

clean:  ## Remove the environment and what tools left behind.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.base: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: setup.cfg pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.base
