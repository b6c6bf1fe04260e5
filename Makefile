# make repro: set up everything and run the pipeline.  make test: set up everything and run the tests.
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
export PATH := $(BIN):$(PATH)
export OMP_WAIT_POLICY := PASSIVE
.DEFAULT_GOAL := repro
.PHONY: repro test check lock docs

repro: $(READY)
	@started=$$SECONDS; dvc repro && echo "pipeline took $$((SECONDS - started)) s"

test: $(READY)
	coverage erase
	coverage run -m pytest
	coverage combine -q
	coverage report

check: $(READY)
	ruff check .
	ruff format --check .
	mypy
	pytest -m "not slow"

lock: $(READY)
	uv pip compile --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet \
		-o requirements.lock pyproject.toml

docs: $(READY)
	python -m stages.docs

# The environment, exactly as locked; made again only when the lock changes.
$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/.venv uv pip sync --quiet --require-hashes requirements.lock
	touch $@
