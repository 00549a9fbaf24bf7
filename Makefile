# Every target sets up what it needs by itself. `make help` lists them.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
TOOLS   := .tools
CLAUDE  := 2.1.330
ARGS    ?=

PYTHON  ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
             $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

.PHONY: help setup run demo test check bench scorecard tools docs site requirements clean

help:
	@echo 'make setup   everything into .venv, from the pinned requirements'
	@echo 'make run     serve with providers.yaml; if there is none, with three simulated providers'
	@echo 'make demo    simulated providers, one of them ill, and what the balancer does about it'
	@echo 'make test    the whole check: format, lint, types, import floors, tests'
	@echo 'make check   providers.yaml: every problem with its line'
	@echo 'make bench   ratios to nginx, from one run (needs nginx)'
	@echo 'make scorecard  play every known fault, and write docs/scorecard.md'
	@echo "make tools   the real Claude Code client (needs npm) and llama.cpp's server, for the tests with them"
	@echo 'make docs    write again what is generated in docs/'

setup: $(STAMP)

$(STAMP): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed; install it, or say where it is: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@if command -v uv >/dev/null 2>&1; then \
	   { test -x $(BIN)/python || uv venv -q --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); } && \
	   uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements-dev.txt && \
	   uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	 else \
	   { test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
	   $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt && \
	   $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	 fi
	@touch $@

run: $(STAMP)
	@$(BIN)/python src/main.py $(ARGS)

demo: $(STAMP)
	@$(BIN)/balancer demo $(ARGS)

check: $(STAMP)
	@$(BIN)/balancer check $(ARGS)

test: $(STAMP)
	@$(BIN)/ruff format --check src tests bench
	@$(BIN)/ruff check src tests bench
	@$(BIN)/mypy src bench tests
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -r s tests $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m bench $(ARGS)

scorecard: $(STAMP)
	@$(BIN)/python tests/live/scorecard.py

tools: $(TOOLS)/node_modules/.bin/claude $(TOOLS)/llama/.ready

$(TOOLS)/node_modules/.bin/claude:
	@command -v npm >/dev/null || { echo 'npm is needed for the real Claude Code client; install Node.js' >&2; exit 1; }
	npm install --prefix $(TOOLS) --no-audit --no-fund --no-package-lock --loglevel=error @anthropic-ai/claude-code@$(CLAUDE)

$(TOOLS)/llama/.ready: requirements-tools.txt | $(STAMP)
	@rm -rf $(@D)
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python --target $(@D) --no-deps --require-hashes --only-binary :all: -r $<; \
	 else $(BIN)/python -m pip install -q --disable-pip-version-check --target $(@D) --no-deps --require-hashes --only-binary :all: -r $<; fi
	@touch $@

docs: $(STAMP)
	@$(BIN)/python -m balancer.config.reference

site: $(VENV)/.site
	@$(BIN)/python -m mkdocs build --strict $(ARGS)

$(VENV)/.site: requirements-docs.txt $(STAMP)
	@if command -v uv >/dev/null 2>&1; then uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r $<; \
	 else $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<; fi
	@touch $@

requirements:
	@set -e; for lock in "requirements.txt pyproject.toml" "requirements-dev.txt pyproject.toml --group dev" \
	   "requirements-docs.txt --group docs -c requirements-dev.txt"; do \
	   set -- $$lock; out=$$1; shift; \
	   uv pip compile "$$@" --generate-hashes --universal --python-version 3.11 --no-strip-extras --no-emit-index-url \
	   --no-emit-find-links --no-header --no-annotate -q -o $$out; done

clean:
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .hypothesis .import_linter_cache
