# The two commands a newcomer needs: make demo (ARGS=--once plays the story and ends), make test.
# Everything is installed below VENV, nothing elsewhere; a second run of any target sets nothing up again.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# Test workers: every core, at most four (each starts servers of its own).
WORKERS ?= auto
UV ?= uv

BIN := $(VENV)/bin
SET_UP = @command -v $(PYTHON) >/dev/null || { echo "lgsp-bus: no $(PYTHON) here. Install Python 3.11 to 3.13, or name one: make PYTHON=/path/to/python3 $@" >&2; exit 1; }; \
	$(PYTHON) tools/environment.py $(VENV)
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 $(ARGS)
# Published as source only, so installed in a step of its own (tools/environment.py).
WHEELS = $(COMPILE) --no-emit-package spyne

.DEFAULT_GOAL := help
.PHONY: help demo test quick lint format types layers bench faults scenario lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## set up and play the dossier story on loopback; ARGS=--once ends after the story
	$(SET_UP) run
	@$(BIN)/lgsp demo $(ARGS)

# Each step runs whatever the one before it said, so that one run tells all; the tests come last and so does their summary.
test: ## set up and run everything that CI runs: lint, types, layers, tests
	$(SET_UP) dev
	@failed=; \
	$(BIN)/ruff check --quiet . || failed="$$failed lint"; \
	$(BIN)/ruff format --quiet --check . || failed="$$failed format"; \
	$(BIN)/mypy --no-error-summary || failed="$$failed types"; \
	$(BIN)/lint-imports --no-logo || failed="$$failed layers"; \
	test -z "$$failed" || echo "lgsp-bus: not clean:$$failed (details above)"; \
	$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 4 --dist worksteal --cov --cov-report=term:skip-covered $(ARGS) && test -z "$$failed"

quick: ## only the quick tests, no coverage
	$(SET_UP) dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 4 --dist worksteal -m "not slow" $(ARGS)

lint: ## ruff, without changing anything
	$(SET_UP) dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: ## let ruff put the code in order
	$(SET_UP) dev
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: ## mypy --strict
	$(SET_UP) dev
	@$(BIN)/mypy

layers: ## the walls between the rooms
	$(SET_UP) dev
	@$(BIN)/lint-imports --no-logo

faults: ## break everything once and count what is lost (half an hour); ARGS="--only rabbitmq-killed", "--list"
	$(SET_UP) dev
	@$(BIN)/python -m benchmarks.faults $(ARGS)

scenario: ## Hải Phòng's half-year on a cluster of which one after the other is killed; ARGS="--dossiers 26690", --story
	$(SET_UP) dev
	@$(BIN)/python -m benchmarks.hai_phong $(ARGS)

bench: ## measure; results under bench-results/
	$(SET_UP) bench
	@$(BIN)/lgsp bench $(ARGS)

lock: ## write requirements/*.txt anew from pyproject.toml (needs uv); ARGS=--upgrade takes newer releases
	@command -v $(UV) >/dev/null || { echo "lgsp-bus: make lock needs uv (pip install uv), or name it: make lock UV=/path/to/uv" >&2; exit 1; }
	$(WHEELS) pyproject.toml requirements/build.in -o requirements/run.txt
	$(WHEELS) -c requirements/run.txt --extra trace pyproject.toml requirements/build.in -o requirements/trace.txt
	$(WHEELS) -c requirements/trace.txt --extra dev --extra trace pyproject.toml requirements/build.in -o requirements/dev.txt
	$(WHEELS) -c requirements/dev.txt --extra bench pyproject.toml requirements/build.in -o requirements/bench.txt
	$(COMPILE) --no-deps requirements/source.in -o requirements/source.txt

clean: ## remove the environment and every cache, never data under var/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
