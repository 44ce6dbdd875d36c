# Two commands do all the set-up: `make demo` and `make test`. `make ui` opens the Dagster UI.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test campaign ui bench docs lint lock clean

# uv is used where it is there, since it is faster. setuptools comes first: it builds ta, which ships no wheel, without a
# build environment that nobody has locked.
UV := $(shell command -v uv)
VENV := $(if $(UV),uv venv -q --allow-existing --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
INSTALL := $(if $(UV),VIRTUAL_ENV=.venv uv pip install -q,$(BIN)/python -m pip install -q) --no-deps --no-build-isolation

# What runs, and nothing that only tests need.
.venv/installed: requirements.lock pyproject.toml
	$(VENV)
	grep -A2 '^setuptools==' requirements.lock > .venv/build.lock
	$(INSTALL) --require-hashes -r .venv/build.lock
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) -e .
	touch $@

.venv/tests: .venv/installed requirements-dev.lock
	$(INSTALL) --require-hashes -r requirements-dev.lock
	touch $@

demo: .venv/installed
	$(BIN)/ledger-pipeline demo

test: .venv/tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=20

campaign: .venv/tests
	$(BIN)/python -m pytest -q -m campaign

ui: .venv/installed
	$(BIN)/ledger-pipeline ui

bench: .venv/tests
	$(BIN)/python benchmarks/run.py

docs: .venv/tests
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

lint: .venv/tests docs
	$(BIN)/ruff check ledger_pipeline ledger_pipeline_tests strategies benchmarks sources
	$(BIN)/ruff format --check ledger_pipeline ledger_pipeline_tests benchmarks sources
	$(BIN)/lint-imports
	$(BIN)/mypy
	env -u DAGSTER_HOME $(BIN)/dg check defs

# Needs uv; the locks name no registry.
COMPILE := uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock:
	$(COMPILE) --extra build --extra dev -o requirements-dev.lock
	$(COMPILE) --extra build -c requirements-dev.lock -o requirements.lock

clean:
	[ ! -d data ] || find data -mindepth 1 -maxdepth 1 ! -name trials -exec rm -rf {} +  # what was tried stays counted
	rm -rf .dagster site
	find ledger_pipeline -name "*.nb[ci]" -delete
