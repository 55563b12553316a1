# Needs Python 3.11 or newer and make. What the targets use is installed into .venv from the lock files, every hash
# checked, and again whenever a lock file, or the Python that PYTHON names, has changed.

PYTHON ?= python3
UV ?= uv
VENV := .venv
BIN := $(VENV)/bin

PYTHON_VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
RUNTIME := $(VENV)/.runtime-$(PYTHON_VERSION)
PROJECT := $(VENV)/.project-$(PYTHON_VERSION)
DEV := $(VENV)/.dev-$(PYTHON_VERSION)

INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" $(UPGRADE)

.DEFAULT_GOAL := help
.NOTPARALLEL: # two measurements at a time would measure each other
.PHONY: help demo test test-fast lint mutants chaos load load-high load-medium load-sparse lock check-container clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(PROJECT) ## messages arriving late on purpose, on an embedded broker; needs no Kafka
	@$(BIN)/delayed-consumer demo $(ARGS)

test: lint ## everything: lint, the fast tests, and those on a real Kafka (they need Java and Maven)
	@$(BIN)/python -m pytest tests -m "not cluster"
	@$(BIN)/python -m pytest tests -m cluster --numprocesses 2 --dist loadfile

test-fast: $(DEV) ## the tests that need no broker; seconds
	@$(BIN)/python -m pytest tests -m "not cluster"

lint: $(DEV) ## ruff, mypy --strict, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

mutants: $(DEV) ## plants each known bug in turn: a test must turn red
	@$(BIN)/python -m tests.mutants

chaos: $(DEV) ## SIGKILL in the middle of the work, 1,000 times a guarantee: make chaos CHAOS_KILLS=100 is what `test` does
	@CHAOS_KILLS=$${CHAOS_KILLS:-1000} $(BIN)/python -m pytest --verbose --capture=no tests/kafka/test_kills.py

load: $(DEV) ## the load tests on a real Kafka, or one of them: make load-sparse ARGS="--seconds 60"
	@$(BIN)/python -m load all $(ARGS)

load-high load-medium load-sparse: load-%: $(DEV)
	@$(BIN)/python -m load $* $(ARGS)

lock: ## the lock files anew from pyproject.toml; needs uv; UPGRADE=--upgrade takes the newest versions
	@command -v $(UV) >/dev/null || { echo 'make lock needs uv: pip install uv, or make UV=/where/it/is lock' >&2; exit 1; }
	@$(COMPILE) pyproject.toml --output-file requirements.lock
	@$(COMPILE) pyproject.toml --constraints requirements.lock --group dev --output-file requirements-dev.lock
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(COMPILE) - --output-file requirements-build.lock

check-container: $(DEV) ## every command of the Dockerfile, without Docker, as the container would run it; needs root on Linux
	@[ "$$(uname)/$$(id -u)" = Linux/0 ] || { echo 'make check-container needs root on Linux' >&2; exit 1; }
	@echo 'Building the stages of the Dockerfile (a minute or two)'
	@unshare --mount $(BIN)/python -m pytest --timeout=900 tests/container/as_built.py

clean: ## removes what the other targets made, except the reports of load tests
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find delayed_consumer load tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.lock requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo '$(PYTHON) is missing or older than Python 3.11; choose another: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo '$(PYTHON) lacks venv; on Debian and Ubuntu: apt-get install python$(basename $(PYTHON_VERSION))-venv' >&2; exit 1; }
	@echo 'Installing what runs into $(VENV), once (Python $(PYTHON_VERSION))'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) --require-hashes -r requirements-build.lock -r requirements.lock
	@touch $@

$(PROJECT): $(RUNTIME) pyproject.toml
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.lock | $(PROJECT)
	@echo 'Installing what tests into $(VENV), once (a minute or so)'
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@
