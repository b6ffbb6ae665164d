# One target per thing one does; each makes the environment it needs, once.
#
#   make compare   compare methods and write a report     make test    the test suite
#   make report    rebuild the report of a run folder     make check   lint, format, types
#   make reproduce the paper's figures, ours beside them  make zoo     the evaluator against its cheats
#   make bench     the benchmarks
#   make test-gpu  the tests that need an NVIDIA GPU      make bench-gpu  the benchmarks that need one
#   make prepare   environments of foreign packages, which compare otherwise makes when it needs them
#
#   make compare TASKS="matmul softmax" METHODS="best_of_n ksearch[k=3]" SEEDS=3 BUDGET=20 RUNS=runs/a
#   make reproduce RUNS=runs/a KERNELS=folder
#
# PYTHON=/path/to/python uses that interpreter and installs nothing (it lists what is missing).
# TORCH_INDEX=URL takes torch from that index, e.g. https://download.pytorch.org/whl/cpu (CPU only).
# WHEELS=FOLDER, for prepare: takes carried wheels instead of the package index.
# What each variable of `compare` means: harness compare --help.

SUITE ?= cpu
TASKS ?=
METHODS ?= best_of_n ksearch[k=3,cycle_limit=2] openevolve shinkaevolve
SEEDS ?= 3
BUDGET ?= 20
MODEL ?=
LLM ?=
EVALUATOR ?=
RUNS ?= runs/comparison
KERNELS ?=
JOBS ?=
YES ?=
TORCH_INDEX ?=

VENV := .venv
pip := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input
torch_fits := -c 'import torch; v = tuple(map(int, torch.__version__.split(".")[:2])); exit(not (2, 8) <= v < (3, 0))'

ifneq ($(origin PYTHON),undefined)
  python := $(PYTHON)
  core := check-python
  dev := check-python-dev
else
  python := $(VENV)/bin/python
  core := $(VENV)/.core
  dev := $(VENV)/.dev
endif

.PHONY: compare report reproduce test test-thorough test-gpu bench bench-gpu check zoo prepare check-python check-python-dev
.DEFAULT_GOAL := compare

compare: $(core)
	@$(python) -m harness compare --suite '$(SUITE)' --methods '$(METHODS)' --seeds '$(SEEDS)' \
	  --budget '$(BUDGET)' --runs '$(RUNS)' $(if $(TASKS),--tasks '$(TASKS)') \
	  $(if $(MODEL),--model '$(MODEL)') $(if $(LLM),--llm '$(LLM)') \
	  $(if $(EVALUATOR),--evaluator '$(EVALUATOR)') $(if $(JOBS),--jobs '$(JOBS)') \
	  $(if $(YES),--yes)

report: $(core)
	@$(python) -m harness report '$(RUNS)'

# The default of RUNS is for compare: here only a folder that was asked for counts.
given_runs := $(if $(filter-out file,$(origin RUNS)),$(RUNS))

reproduce: $(core)
	@$(python) -m harness reproduce $(if $(given_runs),--runs '$(given_runs)') \
	  $(if $(KERNELS),--kernels '$(KERNELS)')

prepare: $(core)
	@$(python) -m harness prepare $(if $(WHEELS),--wheels '$(WHEELS)')

zoo: $(core)
	@$(python) -m tests.zoo.scorecard

test: $(dev)
	@$(python) -m pytest

test-thorough: $(dev)
	@$(python) -m pytest -m "thorough or not thorough"

test-gpu: $(dev)
	@$(python) -m pytest tests/test_gpu_device.py tests/test_gpu_zoo.py tests/test_gpu_modal.py \
	  tests/test_gpu_flashinfer.py

bench-gpu: $(dev)
	@$(python) -m pytest benchmarks/bench_gpu.py benchmarks/bench_flashinfer.py \
	  benchmarks/bench_flashinfer_bench.py --benchmark-only -s

bench: $(dev)
	@$(python) -m pytest benchmarks --benchmark-only

check: $(dev)
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy

# The user's own interpreter: nothing is installed.
check-python:
	@$(python) -m harness.requirements

check-python-dev:
	@$(python) -m harness.requirements dev

# The first interpreter that is new enough makes the environment. If it has a torch that fits, the
# environment sees it: a GPU machine keeps the torch that fits its driver.
$(VENV)/bin/python:
	@for name in python3 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$$name; break; fi; \
	done; \
	if [ -z "$$base" ]; then \
	  echo "No Python of version 3.11 or newer was found. Install one, or use the Dockerfile." >&2; exit 1; \
	fi; \
	if $$base $(torch_fits) 2>/dev/null; then site=--system-site-packages; fi; \
	$$base -m venv $$site $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "Cannot make $(VENV). On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# A torch that is there and fits is kept: then the pins of constraints.txt are left out.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV), once (torch is the large part) ..."
	@if $(python) $(torch_fits) 2>/dev/null; then \
	  grep -vE '^(torch|triton)' constraints.txt > $(VENV)/constraints.txt || true; \
	else \
	  cp constraints.txt $(VENV)/constraints.txt; \
	  $(if $(TORCH_INDEX),$(pip) install --index-url '$(TORCH_INDEX)' -c constraints.txt torch;,) \
	fi && $(pip) install -c $(VENV)/constraints.txt -e .
	@touch $@

# The tests run the foreign packages, so their environments belong to the tools.
$(VENV)/.dev: $(VENV)/.core $(wildcard methods/*/requirements.lock)
	@echo "Installing the tools for tests and checks into $(VENV), once ..."
	@$(pip) install -c $(VENV)/constraints.txt -e '.[dev,tvm-ffi]'
	@$(python) -m harness prepare
	@touch $@
