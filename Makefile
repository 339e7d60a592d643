# `make cartpole` and `make test` do all the set-up they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

.PHONY: cartpole test lint clean

cartpole: $(STAMP)  ## evolve a synthetic CartPole and test agents on the real one
	$(RUN) -m benchmarks.cartpole $(ARGS)

test: $(STAMP)  ## lint, types and the whole test suite
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(RUN)
	$(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
