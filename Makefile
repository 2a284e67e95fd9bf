# `make demo` and `make test` are all that a newcomer needs; both create .venv first. PYTHON names another interpreter.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A process takes up to 1.5 GB.
TESTS := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
LONG := $(patsubst %,tests/test_%.py,demo docs methods readme recipes)
FAST := $(patsubst %,tests/%,compare files losses metrics networks recipe runtimes scoring) $(filter-out $(LONG),$(wildcard tests/test_*.py))

.PHONY: help demo test test-fast lint format typecheck docs generated clean results-check

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed  ## train a teacher, a baseline and a distilled student on drawn shapes; compare them
	$(BIN)/kd demo

test: lint typecheck  ## what CI runs: lint, types and all tests, about seven minutes on two cores
	$(TESTS)

test-fast: .venv/installed-dev  ## the quick tests, about a minute and a half on two cores
	$(TESTS) $(FAST)

lint: .venv/installed-dev  ## ruff, its format, and the floors of the imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: .venv/installed-dev  ## let ruff sort imports and format the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

typecheck: .venv/installed-dev  ## mypy, strict
	$(BIN)/mypy

docs: .venv/installed-dev  ## the pages and the API reference as HTML, offline: build/docs/index.html
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --conf-dir docs . build
	@echo "build/docs/index.html"

generated: .venv/installed-dev  ## the files written from the code: the JSON Schemas, the table of losses, the tables of results
	$(BIN)/kd schema > recipes/recipe.schema.json
	$(BIN)/python docs/losses_table.py
	$(BIN)/python docs/results_table.py
	for command in compare diff evaluate latency list study; do $(BIN)/kd schema $$command > docs/schemas/$$command.schema.json; done

results-check: .venv/installed-dev  ## compare the tables after `<!-- runs: … -->` in docs/results with the kept runs
	$(BIN)/pytest -n 0 tests/test_results.py

clean:  ## remove .venv and everything that tools wrote
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	@$(BIN)/python -c 'import torch' 2>/dev/null || echo "installs torch's default build with CUDA, about 6 GB on disk; README.md names the CPU build, a download of about 200 MB"
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: pyproject.toml .ci/constraints.txt | $(BIN)/python
	$(INSTALL) --constraint .ci/constraints.txt --editable '.[dev,docs]'
	touch .venv/installed $@
