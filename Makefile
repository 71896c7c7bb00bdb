# The two commands of the README: `make study` and `make test`. Both create the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= results/default
WORKERS ?= 2

.PHONY: study test lint types check env clean

study: $(VENV)/.installed
	$(BIN)/codesign study studies/default.yaml --out $(OUT)

test: $(VENV)/.complete
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.complete
	$(BIN)/mypy

check: lint types test

env: $(VENV)/.complete

# Versions are pinned in constraints.txt alone.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else f"Python must be 3.11 to 3.13, not {v[0]}.{v[1]} ({sys.executable}); set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[models]'
	@touch $@

# What tests, linter and type checker need besides.
$(VENV)/.complete: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[models,brevitas,hls,vision,test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
