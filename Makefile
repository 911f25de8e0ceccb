# demo and test do all of their own set-up in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

# Threads that spin while they wait cost 4x on a busy machine; torch reads these when it loads.
export OMP_WAIT_POLICY = PASSIVE
export OMP_NUM_THREADS ?= 2
# No test and no demo reaches a model hub.
export HF_HUB_OFFLINE = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
unexport PLAIT_PLUGINS PLAIT_DISABLE PLAIT_SEED

.PHONY: help setup demo test test-all lint bench build clean

help:
	@echo "make demo      train, evaluate and predict on real digits with two models"
	@echo "make test      lint and the tests"
	@echo "make test-all  the slow tests too"
	@echo "make lint      ruff, mypy --strict, import-linter"
	@echo "make bench     measurements side by side (PLAIT_BENCH_DATA names a folder of real data)"
	@echo "make build     wheels and sdists of every distribution in dist/"

setup: $(READY)

$(READY): pyproject.toml plugins/nlp/pyproject.toml plugins/recommendation/pyproject.toml plugins/speech/pyproject.toml plugins/vision/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Plait needs Python >= 3.11; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e ".[deepspeed]" -e "plugins/nlp[lora,minilm]" -e plugins/recommendation -e "plugins/speech[hmmlearn,synth]" -e "plugins/vision[mnist]" --group dev
	@touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python -m pytest -m "not slow and not bench" -n 2 --dist loadfile

test-all: lint
	$(BIN)/python -m pytest -m "not bench" -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --group bench
	@touch $(VENV)/.bench

bench: $(VENV)/.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "bench or figures" -s -p no:xdist tests plugins

build: $(READY)
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist plugins/nlp
	$(BIN)/python -m build --outdir dist plugins/recommendation
	$(BIN)/python -m build --outdir dist plugins/speech
	$(BIN)/python -m build --outdir dist plugins/vision

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
