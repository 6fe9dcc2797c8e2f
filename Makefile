# Two commands for a fresh machine (Python 3.11 and make): `make search` and `make check`. The rest is for development.
PYTHON ?= python3
BIN := .venv/bin
TWO_AT_A_TIME := --numprocesses 2 --dist loadgroup
LOCKED := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: help search check quick lint node format lock clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/tuner.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/tuner.node: cluster/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement cluster/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

search: $(BIN)/tuner.installed  ## make the environment and search the embedded data set
	$(BIN)/python -m tuner.search search_spaces/digits.yaml

check: $(BIN)/tuner.installed  ## make the environment and pass all tests, lint, types and import contracts
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

quick: $(BIN)/tuner.installed  ## the same, without the tests that take long: a few minutes
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) -m "not full"

lint: $(BIN)/tuner.installed  ## lint, types, import contracts only
	$(BIN)/python -m pytest tests/house/test_house.py

node: $(BIN)/tuner.node  ## make the environment of a node of a cluster (cluster/README.md)

format: $(BIN)/tuner.installed  ## format the code
	$(BIN)/ruff format tuner tests benchmarks && $(BIN)/ruff check --fix tuner tests benchmarks

lock:  ## compile the lock files anew from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra dev $(LOCKED) --upgrade --output-file requirements.lock
	uv pip compile pyproject.toml --extra cluster --extra aws --extra gcp --extra gpu $(LOCKED) --upgrade \
		--constraint requirements.lock --output-file cluster/requirements.lock

clean:  ## remove the environment and caches, not runs or reports
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
