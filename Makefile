# Everything a fresh machine needs is Python 3.11 (or later) and make: `make demo`, `make test`.
# Tests are of four tiers, by the marks of pyproject.toml: `quick`, none, `long`, `deep`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Airflow, Dagster and dbt would narrow everybody else's versions, and Spark is half a gigabyte: they
# have environments of their own.
OTHERS := .venv-airflow/.installed .venv-dagster/.installed .venv-dbt/.installed .venv-spark/.installed
# uv finds versions that fit all destinations together in seconds, where pip takes many minutes.
UV_INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python
INSTALL := $(UV_INSTALL) $(BIN)/python
NEWEST := dlt duckdb pyarrow urllib3
# Tests run in one process more than there are cores, for some of them wait; and start many more,
# which need not each compile the package again.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup setup-airflow setup-dagster setup-dbt setup-spark demo quick test test-all test-deep test-latest test-oldest soak check format bench scale docs clean

help:  ## Explain every target
	@echo "Targets (each sets up what it needs in $(VENV)):"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '%-21s %s\n' "$$name" "$$text"; done

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

setup-airflow: .venv-airflow/.installed  ## Make the environment of Airflow, which the tests start

setup-dagster: .venv-dagster/.installed  ## Make the environment of Dagster, which the tests start

setup-dbt: .venv-dbt/.installed  ## Make the environment of dbt, which the tests start

setup-spark: .venv-spark/.installed  ## Make the environment of Spark, which the tests start (Java is needed, too)

.venv-dbt/.installed: EXTRAS := dbt-bigquery,dbt-postgres,s3

.venv-%/.installed: pyproject.toml | $(STAMP)
	@echo "== setup: $* in .venv-$*"
	@test -x .venv-$*/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-$* || \
		{ echo "setup failed: making .venv-$*"; exit 1; }
	@$(UV_INSTALL) .venv-$*/bin/python -e '.[$(or $(EXTRAS),$*)]' || \
		{ echo "setup failed: installing $*"; exit 1; }
	@touch $@

demo: $(STAMP)  ## Load an invented world twice into linq_messages.duckdb and ask five questions
	@$(BIN)/linq-source demo || { echo "demo failed"; exit 1; }

quick: $(STAMP)  ## Run what a change is likely to break: pure parts, a few loads (a minute)
	@$(PYTEST) -m quick || { echo "quick failed"; exit 1; }

test: $(STAMP)  ## Run a test for every guarantee, on DuckDB or the lake (five minutes)
	@$(PYTEST) -m "not long" || { echo "test failed"; exit 1; }

test-all: test $(OTHERS)  ## Run `test`, then every other destination and orchestrator (half an hour)
	@$(PYTEST) -m "long and not deep" || { echo "test-all failed"; exit 1; }

test-deep: $(OTHERS)  ## Run more histories, kill moments and variants of the same tests
	@$(PYTEST) -m deep || { echo "test-deep failed"; exit 1; }

test-latest: $(STAMP)  ## Run `test` with the newest dlt, DuckDB, pyarrow and urllib3, allowed by pyproject.toml or not
test-latest: install = $(1) -e '.[test]' && $(1) $(NEWEST:%=-P %) $(NEWEST)

test-oldest: $(STAMP)  ## Run `test` with the oldest versions that pyproject.toml allows
test-oldest: install = $(1) --resolution lowest-direct -e '.[test]'

test-latest test-oldest: test-%:
	@echo "== $@: packages in .venv-$*"
	@test -x .venv-$*/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python .venv-$* || \
		{ echo "setup failed: making .venv-$*"; exit 1; }
	@$(call install,$(UV_INSTALL) .venv-$*/bin/python) || { echo "setup failed: installing packages"; exit 1; }
	@$(BIN)/uv pip freeze --python .venv-$*/bin/python | grep -E "^($$(echo $(NEWEST) | tr ' ' '|'))=="
	@$(subst $(BIN),.venv-$*/bin,$(PYTEST)) -m "not long" || { echo "$@ failed"; exit 1; }

soak: $(STAMP)  ## Random histories with killed runs for MINUTES (30), until a table differs
	@$(BIN)/python -W error -m tests.soak $(or $(MINUTES),30) $(SEED) || { echo "soak failed"; exit 1; }

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

clean:  ## Remove the virtual environments and caches
	@rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
