# make repro: set up everything and run the pipeline.  make test: set up everything and run the tests.
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
export PATH := $(BIN):$(PATH)
export OMP_WAIT_POLICY := PASSIVE
# Left over from another environment, these would mix its packages with those of .venv.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PIP_USER PIP_TARGET PIP_PREFIX
# DVC needs the user's name, which a container's user may lack.
NAMELESS := $(shell id -un > /dev/null 2>&1 || id -u)
ifneq ($(NAMELESS),)
export LOGNAME ?= $(NAMELESS)
endif
# Programs in .venv contain the path of their Python, so none runs after that path has changed.
RUNS := $(shell test "$$(cat $(READY) 2> /dev/null)" = "$$(pwd)" && \
	.venv/bin/python -c "import dvc" 2> /dev/null && echo yes)
ifneq ($(RUNS),yes)
.PHONY: $(READY)
CLEAR := --clear
endif
.DEFAULT_GOAL := repro
.PHONY: setup repro test coverage check bench crash diff lock docs

setup: $(READY)

repro: $(READY)
	@started=$$SECONDS; dvc repro && echo "pipeline took $$((SECONDS - started)) s"
	@echo "Open the page of the run in a browser: data/report/index.html"

test: $(READY)
	pytest -n 2 --dist loadfile --no-loadscope-reorder $(COVERAGE)

# The tests, a quarter slower, and the lines that they do not reach.
coverage: COVERAGE := --cov
coverage: test

check: $(READY)
	ruff check .
	ruff format --check .
	mypy
	pytest -m "not slow"

# Speed compared with named peers; on a GPU first cp params/sd15.yaml params.yaml.
bench: $(READY)
	python benchmarks/speed.py

# Stop the pipeline thirty times at random moments and compare the bytes. Takes half an hour.
crash: $(READY)
	python tests/crash.py 30

# Compare with BASE: which changes exceed noise. The page with pictures is data/report/diff.html.
BASE ?= main
diff: $(READY)
	@python -m stages.diff $(BASE)

lock: $(READY)
	uv pip compile --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet \
		-o requirements.lock pyproject.toml

# README's pictures, its example of `dvc metrics diff` and docs/report.html, from the embedded run.
# The example trains at another rank, which takes a quarter of an hour the first time.
docs: $(READY)
	dvc repro --quiet
	! dvc exp list --name-only | grep -qx example || dvc exp remove example
	dvc exp run --quiet --temp --name example -S train.rank=16 evaluate
	{ echo '```'; dvc metrics diff workspace example --targets metrics/evaluation.json | head -n 9; \
		echo '```'; } | sed -i README.md -e '/^<!-- example/,/^<!-- end of the example/{//!d}' \
		-e '/^<!-- example/r /dev/stdin'
	python benchmarks/embedded.py
	cp models/lora/curves.png docs/
	cp data/report/index.html docs/report.html
	python benchmarks/screenshot.py data/report/index.html docs/report.png

# The environment, exactly as locked. It is updated when the lock changes, and made from nothing if
# it does not run or the last attempt failed, because a full disk leaves half a package.
$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@# By the real path of Python, which may be a link in the .venv that is cleared.
	itself="$$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.executable))')" && \
		"$$itself" -m venv $(CLEAR) .venv
	rm -f $@
	python -m pip install --quiet --disable-pip-version-check uv
	cache="$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/uv}"; \
		mkdir -p "$$cache" 2> /dev/null && test -w "$$cache" || without=--no-cache; \
		uv pip sync --python .venv --quiet --compile-bytecode --require-hashes $$without requirements.lock
	pwd > $@
