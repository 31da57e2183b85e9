# What a newcomer or CI runs. Needs Python 3.10 or newer with `venv`, and make; nothing else.
#
#   make demo    embed and search real text, print the speed, draw the similarity matrix
#   make test    run the tests
#   make check   lint, formatting and types
#   make bench   measure against the reference, in environments of its own
#   make docs    build the reference pages into build/docs
#   make clean   remove what the above have made

PYTHON ?= python3
VENV ?= .venv

# Installed before everything else, so that nothing draws another build of it in. Where the default brings
# more than you want (on Linux it may come with CUDA), name the build: make demo TORCH="torch --index-url URL"
TORCH ?= torch==2.13.0

PYTEST_ARGS ?= -q -n auto --dist worksteal
BENCH_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
REFERENCE := .venv-reference
REFERENCE_3 := .venv-reference-3.4

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-encode bench-deterministic bench-memory bench-compatibility bench-training bench-search bench-rerank bench-serve bench-backends docs clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.has-demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.has-dev
	PYTHONHASHSEED=0 $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.has-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-encode bench-deterministic bench-memory bench-compatibility bench-training bench-search bench-rerank bench-serve bench-backends

bench-encode: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/encode.py $(BENCH_ARGS)

bench-deterministic: $(VENV)/.has-dev
	$(BIN)/python benchmarks/deterministic.py $(BENCH_ARGS)

bench-memory: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/memory.py $(BENCH_ARGS)

bench-compatibility: $(VENV)/.has-dev $(REFERENCE)/.ready $(REFERENCE_3)/.ready
	$(BIN)/python benchmarks/compatibility.py $(BENCH_ARGS)

bench-training: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/training.py --quality $(BENCH_ARGS)

bench-search: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/search.py $(BENCH_ARGS)

bench-rerank: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/rerank.py $(BENCH_ARGS)

bench-serve: $(VENV)/.has-dev
	$(BIN)/python benchmarks/serve.py $(BENCH_ARGS)

bench-backends: $(VENV)/.has-dev $(REFERENCE)/.ready
	$(BIN)/python benchmarks/backends.py $(BENCH_ARGS)

docs: $(VENV)/.has-docs
	$(BIN)/python -m pdoc --docformat google --output-directory build/docs sentence_transformers

# The stamps: one file in an environment for each thing installed there, renewed when its cause changes.

$(VENV)/.made:
	@$(call require_python)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.has-torch: $(VENV)/.made
	@echo "Installing $(TORCH) into $(VENV) ..."
	@$(PIP) $(TORCH) || { echo "Could not install '$(TORCH)'. Name another build: make TORCH=\"torch>=2.6\" ..."; exit 1; }
	@touch $@

$(VENV)/.has-demo: pyproject.toml $(VENV)/.has-torch
	@echo "Installing this project with [demo] into $(VENV) ..."
	@$(PIP) -e ".[demo]"
	@touch $@

$(VENV)/.has-dev: pyproject.toml $(VENV)/.has-torch
	@echo "Installing this project with [dev,demo] into $(VENV) ..."
	@$(PIP) -e ".[dev,demo]"
	@touch $@

$(VENV)/.has-docs: pyproject.toml $(VENV)/.has-dev
	@echo "Installing this project with [docs] into $(VENV) ..."
	@$(PIP) -e ".[docs]"
	@touch $@

# The reference lives apart: it has the same distribution name as this project.
$(REFERENCE)/.ready:
	@$(call require_python)
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet $(TORCH)
	$(REFERENCE)/bin/python -m pip install --quiet "sentence-transformers[train]==6.2.0" "Pillow>=10"
	@touch $@

# The last release of its line runs on the last transformers before 5.
$(REFERENCE_3)/.ready:
	@$(call require_python)
	$(PYTHON) -m venv $(REFERENCE_3)
	$(REFERENCE_3)/bin/python -m pip install --quiet $(TORCH)
	$(REFERENCE_3)/bin/python -m pip install --quiet sentence-transformers==3.4.1 transformers==4.57.6 "Pillow>=10"
	@touch $@

clean:
	rm -rf $(VENV) $(REFERENCE) $(REFERENCE_3) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define require_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
endef
