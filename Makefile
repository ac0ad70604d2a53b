# Everything a fresh machine needs is Python 3.11 (or later) and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# uv finds versions that fit all destinations together in seconds, where pip takes many minutes.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
# Tests run in as many processes as there are cores, and start many more, which need not each
# compile the package again.
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench scale docs clean

help:  ## Explain every target
	@echo "Targets (each sets up what it needs in $(VENV)):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP)  ## Make the virtual environment and install the package with its tools

$(STAMP): pyproject.toml
	@echo "== setup: virtual environment and packages in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "setup failed: $(PYTHON) is older than Python 3.11; try make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "setup failed: making $(VENV)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || \
		{ echo "setup failed: installing uv"; exit 1; }
	@$(INSTALL) -e '.[test,check]' || { echo "setup failed: installing packages"; exit 1; }
	@touch $(STAMP)

demo: $(STAMP)  ## Load an invented world twice into linq_messages.duckdb and ask five questions
	@$(BIN)/linq-source demo || { echo "demo failed"; exit 1; }

test: $(STAMP)  ## Run the test suite, in parallel
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) || { echo "test failed"; exit 1; }

check: $(STAMP)  ## Format, lint, types and layers
	@$(BIN)/ruff format --check --quiet . || { echo "check failed: format (make format mends it)"; exit 1; }
	@$(BIN)/ruff check --quiet . || { echo "check failed: lint"; exit 1; }
	@$(BIN)/mypy || { echo "check failed: types"; exit 1; }
	@$(BIN)/lint-imports --no-logo > /dev/null || $(BIN)/lint-imports || { echo "check failed: layers"; exit 1; }
	@echo "check passed: format, lint, types, layers"

format: $(STAMP)  ## Format the code and mend what lint can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(STAMP)  ## Measure side by side with six other ways, write docs/benchmarks.md (a quarter of an hour)
	@$(INSTALL) -e '.[bench]' || { echo "bench failed: installing packages"; exit 1; }
	@$(BIN)/python benchmarks/suite.py || { echo "bench failed"; exit 1; }

scale: $(STAMP)  ## Measure costs, check the forecasts against larger runs, write docs/scale.md (ten minutes)
	@$(INSTALL) -e '.[bench]' || { echo "scale failed: installing packages"; exit 1; }
	@$(BIN)/python benchmarks/scale.py --write || { echo "scale failed"; exit 1; }

docs: $(STAMP)  ## Write what README and docs quote from the code
	@$(BIN)/python docs/build.py || { echo "docs failed"; exit 1; }

clean:  ## Remove the virtual environment and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build
