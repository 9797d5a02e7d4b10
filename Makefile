# Everything a person or CI runs here. Needs Python 3.11 or later, make, and pip's package index.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
# Stamps: an environment is set up once for each version of its lock.
RUN := $(VENV)/run.stamp
DEV := $(VENV)/dev.stamp
FUZZ := $(VENV)/fuzz.stamp
PIP_INSTALL := $(PY) -m pip install --quiet --quiet --disable-pip-version-check
# One index, so that the hashes are its files' and nobody's own builds.
PIP_COMPILE := PIP_CONFIG_FILE=/dev/null PIP_EXTRA_INDEX_URL= PIP_FIND_LINKS= $(BIN)/pip-compile --quiet --generate-hashes \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --strip-extras --allow-unsafe \
	--no-header --annotation-style=line

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test soak check fmt proto docs lock bench wheel clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\n  ARGS="..." is passed on; PYTHON=python3.12 chooses the interpreter for $(VENV).\n'

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(RUN): requirements/demo.txt requirements/build.txt pyproject.toml | $(PY)
	@$(PIP_INSTALL) --require-hashes -r requirements/demo.txt
	@$(PIP_INSTALL) --require-hashes -r requirements/build.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements/dev.txt $(RUN)
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(DEV) ## Set up .venv from the locks; every other target does so by itself.

demo: $(RUN) ## Run Envoy, the sidecar and a small upstream; show a miss and a hit. UPSTREAM=https://... asks a real one.
	@exec $(BIN)/aicache demo $(ARGS)

test: $(DEV) ## Run the tests with their coverage floors; with ARGS="tests/unit -k word" only those, without floors.
ifeq ($(strip $(ARGS)),)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && export COVERAGE_FILE="$$folder/coverage" && \
	$(PY) -m pytest --cov --cov-report=term --cov-report="json:$$folder/coverage.json" && \
	$(PY) -m tools.floors "$$folder/coverage.json"
else
	@$(PY) -m pytest $(ARGS)
endif

$(FUZZ): requirements/fuzz.txt $(DEV)
	@$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/fuzz.txt \
		|| echo "there is no atheris for this interpreter: the fuzz targets run by mutation alone"
	@touch $@

soak: $(DEV) $(FUZZ) ## Run faults, fuzzers and random sequences in their long form, over an hour; ARGS="tests/fuzz" only those.
	AICACHE_SOAK=1 $(PY) -m pytest -o timeout=3600 $(if $(strip $(ARGS)),$(ARGS),tests/faults tests/property tests/fuzz)

check: $(DEV) ## Check format, lint, types, layers, generated files, sizes, container files.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PY) -m tools.proto --check
	$(PY) -m tools.docs --check
	$(PY) -m tools.sizes
	$(PY) -m tools.tree
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yaml

fmt: $(DEV) ## Format the code and fix what the linter can.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

proto: $(DEV) ## Compile proto/ to ai_cache_extproc/_generated/.
	$(PY) -m tools.proto

docs: $(DEV) ## Write the documents that follow from the code.
	$(PY) -m tools.docs

lock: | $(DEV) ## Resolve the dependencies anew, with hashes; ARGS=--upgrade takes later versions.
	$(PIP_COMPILE) $(ARGS) --all-extras --output-file requirements/dev.txt pyproject.toml
	$(PIP_COMPILE) --extra envoy --constraint requirements/dev.txt --output-file requirements/demo.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/runtime.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/build.txt requirements/build.in
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/fuzz.txt requirements/fuzz.in

bench: $(DEV) ## Measure the sidecar against plain Envoy, a no-op ext_proc server and others.
	$(PY) -m bench run $(ARGS)

wheel: $(DEV) ## Build the wheel into dist/.
	$(PY) -m build --wheel --no-isolation $(ARGS)

clean: ## Remove everything that these targets made, .venv included.
	rm -rf $(VENV) build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench/.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
