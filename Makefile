# Two commands, each alone enough on a fresh machine with git, make and Python 3.11 to 3.13:
#   make demo   trains and compares a Hyperdecoder and a single adapter on data that ships here;
#               METHODS="single_adapter hypergrid" compares others (hyperdecoders_jax/commands/demo.py)
#   make test   format, lint, import contracts, docstrings, tests
# VENV names the virtual environment's folder, PYTHON what makes it.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2

export TF_CPP_MIN_LOG_LEVEL ?= 2
# Many processes import the same packages: the first that imports one keeps its bytecode for all.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all check docs install format clean

demo: $(INSTALLED)
	$(BIN)/python -m hyperdecoders_jax.demo $(if $(METHODS),--methods $(METHODS))

test: check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10 $(PYTEST_ARGS)

# The same on every Python from 3.11 to 3.13 that is found, pyenv's too, and a table.
test-all:
	$(PYTHON) tests/all_pythons.py

# All that needs no test run; docstrings are ruff's D rules.
check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

# The site of docs/, in build/docs.
docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

install: $(INSTALLED)

# Made anew whenever what is to be installed has changed; `test` brings `train`, which the demo needs,
# and `plots`. Nothing is compiled ahead: most modules of the packages are never imported, and Python
# compiles those that are, once.
$(INSTALLED): setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "$(VENV) must hold Python 3.11 to 3.13: remove it, then make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache demo_runs
