# Every target sets up its own virtual environment in .venv; nothing else is needed but Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: sandbox dev test check bench clean

$(READY): pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' $(addprefix -e ,$(dir $(wildcard plugins/*/pyproject.toml)))
	touch $(READY)

sandbox: $(READY)  ## run the worked example end to end, offline, and say what happened
	$(BIN)/ctxhost sandbox

dev: $(READY)      ## keep the sandbox running to play with
	$(BIN)/ctxhost dev

test: $(READY)     ## the whole test suite
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(READY)    ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy plugins/ctxhost-fake/tests
	$(BIN)/mypy plugins/ctxhost-recall/tests

bench: $(READY)    ## figures next to their baselines, in one run
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .sandbox .mypy_cache .ruff_cache .pytest_cache
