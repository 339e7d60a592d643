# `make cartpole` and `make test` do all the set-up they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

.PHONY: cartpole test test-lowest lint docs notebooks clean

cartpole: $(STAMP)  ## evolve a synthetic CartPole and test agents on the real one
	$(RUN) -m benchmarks.cartpole $(ARGS)

test: $(STAMP)  ## lint, types and the whole test suite
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyrefly check --python-interpreter-path $(RUN)
	$(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-lowest:  ## the suite against the lowest and the newest versions that are allowed
	sh tests/lowest_and_newest.sh $(PYTHON) $(ARGS)

docs: $(VENV)/.docs  ## the documentation site, in site/; a broken link fails
	$(RUN) docs/make_diagrams.py
	$(VENV)/bin/zensical build --clean --strict

notebooks: $(STAMP)  ## run the notebooks and store them with their outputs
	$(RUN) examples/run_notebooks.py $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/.docs: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache
