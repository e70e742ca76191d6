# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv and .modellab.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SECONDS ?= 600
PYTHON312 ?= python3.12
LFM := .venv-lfm
LFM_STAMP := $(LFM)/.installed
LOCK_HEADER_1 := \# Every pin, for CPython 3.11 on Linux x86-64, all extras together; made by `make lock` from pyproject.toml.
LOCK_HEADER_2 := \# torch has no local version here, so that pip takes the CPU build where there is one and the index build elsewhere.
LFM_HEADER := \# Every pin of the environment lfm, for CPython 3.12 on Linux x86-64; made by `make lock-lfm` from requirements-lfm.in.

export DVC_NO_ANALYTICS := 1

.PHONY: setup data demo demo-voices test test-bento test-sctk test-postgres env-lfm test-lfm lock-lfm check format docs bench bench-big soak lock clean help

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## Make .venv and install what requirements.lock pins

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

data: setup  ## Pull the versioned test corpora
	$(BIN)/modellab corpus pull --quiet

demo: data  ## Evaluate two recognisers on the starter corpus, compare them, decide, package and ask what won
	$(BIN)/modellab demo

demo-voices: data  ## Evaluate two voices on the prompts, compare them, decide, package and ask what won
	$(BIN)/modellab demo --voices

test: data  ## Run the tests
	$(BIN)/python -m pytest

check: setup  ## Lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## Check that the documentation's links and commands exist
	$(BIN)/python -m pytest tests/test_docs.py -q

test-sctk: data  ## Rerun the golden comparisons with NIST SCTK (needs Debian's package sctk)
	@command -v sctk >/dev/null || command -v sclite >/dev/null || { echo "Install Debian's sctk: apt-get install sctk"; exit 2; }
	$(BIN)/python -m pytest tests/stats -m sctk

test-postgres: setup  ## Run the tests of the lifecycle on PostgreSQL (needs Debian's package postgresql)
	tests/registry/postgres.sh $(BIN)/python -m pytest tests/registry -q

env-lfm: $(LFM_STAMP)  ## Make .venv-lfm for LFM2.5-Audio: Python 3.12, 5 GB

$(LFM_STAMP): requirements-lfm.lock
	@$(PYTHON312) -c "import sys; sys.exit(sys.version_info[:2] != (3, 12))" 2>/dev/null \
		|| { echo "Python 3.12 is needed for $(LFM): install it, or set PYTHON312=/path/to/python3.12"; exit 2; }
	test -x $(LFM)/bin/python || $(PYTHON312) -m venv $(LFM)
	$(LFM)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-lfm.lock
	touch $(LFM_STAMP)

test-lfm: data env-lfm  ## Run ASR and TTS of LFM2.5-Audio through liquid-audio, on a tiny checkpoint trained here
	$(BIN)/python -m pytest tests/models/test_lfm.py -m lfm

test-bento: data  ## Serve exported packages from fresh environments: several minutes, 400 MB from the package index
	$(BIN)/python -m pytest tests/serving/test_elsewhere.py -m bento

# Helpers are named after what they make (bare_loop, bento_service, corpus_project); the two that take long have targets.
BENCHMARKS := $(filter-out %/bare_loop.py %/bento_service.py %/bento_soak.py %/corpus_project.py %/corpus_200k.py,$(wildcard benchmarks/*.py))

bench: data  ## Run the benchmarks: ratios measured side by side in one run
	for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

bench-big: data  ## Add, validate and slice a corpus of 200,000 utterances, killed half-way (10 minutes)
	$(BIN)/python benchmarks/corpus_200k.py

soak: data  ## Load a packaged service with twice what it can serve, for SECONDS (600): no crash, no growth, all answered
	$(BIN)/python benchmarks/bento_soak.py --seconds $(SECONDS)

lock: setup  ## Resolve requirements.lock anew from pyproject.toml
	printf '%s\n%s\n' '$(LOCK_HEADER_1)' '$(LOCK_HEADER_2)' > requirements.lock
	$(BIN)/uv pip compile --quiet --no-header --all-extras --python-version 3.11 pyproject.toml | sed "s/+cpu$$//" >> requirements.lock

lock-lfm: setup  ## Resolve requirements-lfm.lock anew, with the lab's versions where both have a package
	echo '$(LFM_HEADER)' > requirements-lfm.lock
	grep -v "^triton=" requirements.lock | $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.12 \
		--constraints /dev/stdin requirements-lfm.in | sed "s/+cpu$$//" >> requirements-lfm.lock

clean:  ## Remove caches (not .venv, not .modellab)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
