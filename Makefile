# Two commands do all the set-up: `make demo` and `make test`. `make ui` opens the Dagster UI.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test campaign ui bench lint lock clean

# setuptools comes first: it builds ta, which ships no wheel, without a build environment that nobody has locked.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	grep -A2 '^setuptools==' requirements.lock > .venv/build.lock
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r .venv/build.lock
	$(BIN)/python -m pip install -q --require-hashes --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

demo: .venv/installed
	$(BIN)/ledger-pipeline demo

test: .venv/installed
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

campaign: .venv/installed
	$(BIN)/python -m pytest -q -m campaign

ui: .venv/installed
	$(BIN)/ledger-pipeline ui

bench: .venv/installed
	$(BIN)/python benchmarks/run.py

lint: .venv/installed
	$(BIN)/ruff check ledger_pipeline ledger_pipeline_tests strategies benchmarks sources
	$(BIN)/ruff format --check ledger_pipeline ledger_pipeline_tests benchmarks sources
	$(BIN)/lint-imports
	$(BIN)/mypy
	env -u DAGSTER_HOME $(BIN)/dg check defs

# Needs uv; the lock names no registry.
lock:
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock

clean:
	rm -rf data .dagster
