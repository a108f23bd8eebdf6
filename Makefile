# Two commands do everything on a fresh machine: `make demo` and `make test`. `make help` lists all.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
DEMO_OUTPUT := demo-output
BEAM := v2.77.0
# The first Python 3.11-3.13 that really starts; name another with `make PYTHON=...`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
# Beam's workers talk over local gRPC, which a proxy would swallow.
export no_proxy := localhost,127.0.0.1,$(no_proxy)

.PHONY: help demo test engines lint bench gpu-bundle clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 13

demo: $(VENV)/.demo  ## extract features of scikit-image's sample photos and show them
	@photos="$$($(PY) -c 'import importlib.util as u; print(u.find_spec("skimage.data").submodule_search_locations[0])')" \
	&& $(VENV)/bin/image-features extract --input "$$photos" --output $(DEMO_OUTPUT) \
	&& $(VENV)/bin/image-features show $(DEMO_OUTPUT) --rows 40

# The tests start hundreds of processes, each of which would compile the package anew.
test: $(VENV)/.test $(if $(shell command -v go),engines)  ## all tests; those on Prism are left out where there is no Go
	PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

engines: $(VENV)/bin/prism $(VENV)/bin/boot  ## Prism and Beam's worker, for launch/prism.args; needs Go

lint: $(VENV)/.test  ## ruff and mypy --strict
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.bench  ## speed as ratios, against the machine's bound and the peers; some 90 minutes, or BENCH="--part decode"
	$(PY) -m benchmarks --results docs/benchmark.json --chart docs/benchmark.png $(BENCH)

gpu-bundle: $(VENV)/.test  ## dist/gpu-bundle.tar.gz, to check a GPU machine that has JAX and no network
	$(PY) -m benchmarks.gpu_bundle dist/gpu-bundle.tar.gz

clean:  ## remove the environment, the demo's output and all caches
	rm -rf $(VENV) $(DEMO_OUTPUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: setup.py pyproject.toml
	@$(MAKE) --no-print-directory install EXTRAS=demo,cpu,search
	@touch $@

$(VENV)/.test: setup.py pyproject.toml
	@$(MAKE) --no-print-directory install EXTRAS=demo,cpu,search,test
	@touch $@

$(VENV)/.bench: setup.py pyproject.toml
	@$(MAKE) --no-print-directory install EXTRAS=bench,demo,search
	@touch $@

$(VENV)/bin/prism: | $(VENV)/.test
	GOBIN="$$PWD/$(@D)" go install github.com/apache/beam/sdks/v2/go/cmd/prism@$(BEAM)

$(VENV)/bin/boot: | $(VENV)/.test
	GOBIN="$$PWD/$(@D)" go install github.com/apache/beam/sdks/v2/python/container@$(BEAM)
	mv $(@D)/container $@

.PHONY: install
install:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing beam-image-features[$(EXTRAS)] into $(VENV) ($$($(PY) --version))"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
