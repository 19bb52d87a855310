# Everything runs in .venv, which is made on first use. Needed beforehand: make, and Python 3.11 or later.
#   make PYTHON=/path/to/python ...   chooses the Python; by default the newest of those below that works
#   make test ARGS="-m 'not slow'"    hands options to pytest

VENV ?= .venv
RUN_DIR ?= runs/demo
BIN := $(VENV)/bin

.NOTPARALLEL:
.PHONY: help demo test lint types layers docs check constraints clean

help:
	@echo "make demo         fine-tune a character model on Shakespeare's characters; results in $(RUN_DIR)"
	@echo "make test         run the tests"
	@echo "make check        run all checks: test, lint, types, layers, docs"
	@echo "make constraints  renew constraints.txt: the newest versions that fit pyproject.toml"
	@echo "make clean        remove the environment and what was built, but no runs"

demo: $(VENV)/.for-demo
	@dir=$(RUN_DIR); n=2; while [ -e "$$dir" ]; do dir=$(RUN_DIR)-$$n; n=$$((n + 1)); done; \
	$(BIN)/fedloom train shakespeare --run-dir "$$dir"

test: $(VENV)/.for-test
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/.for-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.for-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

layers: $(VENV)/.made
	$(BIN)/python tools/check_layers.py

docs: $(VENV)/.for-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet  # the theme speaks of its successor otherwise

check: test lint types layers docs

constraints: $(VENV)/.made
	$(BIN)/python -m venv --clear $(VENV)/fresh
	$(VENV)/fresh/bin/python -m pip install -qq -e '.[dev]'
	echo '# Exact versions of the development environment. Made by `make constraints`; do not edit.' > constraints.txt
	$(VENV)/fresh/bin/python -m pip freeze --exclude-editable >> constraints.txt
	rm -rf $(VENV)/fresh

clean:
	rm -rf $(VENV) build dist site .hypothesis .pytest_cache .ruff_cache
	rm -f fedloom/kernels/*.so
	find fedloom tests tools -name __pycache__ -prune -exec rm -rf {} +

# A Python that is found need not run (shims of version managers), nor be able to make environments.
$(VENV)/.made:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || { bare=$$python; continue; }; \
	    echo "Making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) && touch $@ && exit; \
	done; \
	if [ "$$bare" ]; then echo "$$bare lacks venv or ensurepip. Debian and Ubuntu have them in a package: apt install python3-venv"; \
	else echo "Found no Python 3.11 or later. Install one, or name it: make PYTHON=/path/to/python"; fi >&2; exit 1

$(VENV)/.for-%: $(VENV)/.made pyproject.toml constraints.txt hatch_build.py $(wildcard fedloom/kernels/native/*)
	@echo "Installing fedloom and what '$*' needs into $(VENV); the first time this takes a minute or more"
	@$(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt -e '.$(if $(filter-out demo,$*),[$*])'
	@touch $@
