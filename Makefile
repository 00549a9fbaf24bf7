# Every target sets up what it needs by itself. `make help` lists them.

VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(VENV)/.run
DEV    := $(VENV)/.dev
SITE   := $(VENV)/.site
TOOLS  := .tools
CLAUDE := 2.1.332
CODEX  := 0.171.0
ARGS   ?=

# The command line out of this checkout, without an installation. -P: a folder of the user's is not a package of ours.
BALANCER := $(BIN)/python -P -m balancer.cli

# Looked for once, and only where it is needed.
PYTHON ?= $(eval PYTHON := $$(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
            $$$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$$$p; break; }; done))$(PYTHON)

# Put what a lock names into .venv. --no-deps: a lock is complete, so no installer, whatever its age, has to resolve anything.
define install
if command -v uv >/dev/null 2>&1; then \
  uv pip install -q --python $(BIN)/python --no-deps $(1); \
else \
  { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
  $(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --no-deps $(1); \
fi
endef

# Make an empty .venv. Without a fitting Python uv fetches one, where there is uv.
define create
rm -rf $(VENV); \
if [ -z "$(PYTHON)" ] && ! command -v uv >/dev/null 2>&1; then \
  echo 'Python 3.11 or newer is needed. Install it, or uv, which brings one; or say where it is: make PYTHON=/path/to/python3.11' >&2; exit 1; \
elif [ -z "$(PYTHON)" ]; then \
  echo 'No Python 3.11 or newer is here: uv fetches one for $(VENV) ...' >&2; \
  uv venv -q --python '>=3.11' $(VENV); \
elif ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
  echo "Python 3.11 or newer is needed; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)" >&2; exit 1; \
else \
  echo "Setting up $(VENV) with $$("$(PYTHON)" --version) ..." >&2; \
  if command -v uv >/dev/null 2>&1; then uv venv -q --python "$$("$(PYTHON)" -c 'import sys; print(sys.executable)')" $(VENV); \
  else "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; fi; \
fi
endef

.PHONY: help setup run demo test check bench scorecard screenshots mutants simulate simulate-faults soak tools codex docs site requirements clean

help:
	@echo 'make run           serve with providers.yaml; if there is none, with three simulated providers'
	@echo 'make demo          simulated providers, one of them failing, and what the balancer does about it'
	@echo 'make check         providers.yaml: every problem with its line'
	@echo '                   these three install only what serving needs; flags: make run ARGS="--port 9000"'
	@echo '                   ./balancer COMMAND runs every other command in the same way'
	@echo 'make setup         everything for development into .venv, from the pinned requirements'
	@echo 'make test          the whole check: format, lint, types, import layers, tests'
	@echo "make tools         the real Claude Code client (needs npm) and llama.cpp's server, for the tests with them"
	@echo 'make codex         the real client Codex (needs npm, 420 MB), for the test with it'
	@echo 'make soak          MINUTES=n (10) of mixed traffic with faults, reloads, outages and leaving clients; ARGS=--help'
	@echo 'make mutants       plant small faults one at a time, and see which the tests do not notice'
	@echo 'make simulate      a million requests against failing providers, on virtual time; SEEDS=100 plays fewer'
	@echo 'make simulate-faults  plant small faults one at a time, and see which the simulation does not notice'
	@echo 'make bench         ratios to nginx, from one run (needs nginx)'
	@echo 'make scorecard     play every known fault, and write docs/scorecard.md'
	@echo 'make screenshots   draw the terminal pictures of the documentation again'
	@echo 'make docs          write again what is generated in docs/'
	@echo 'make site          the documentation as a web site, in site/; a broken link is an error'
	@echo 'make requirements  pin the dependencies of pyproject.toml again (needs uv)'
	@echo 'make clean         remove .venv, the tools and every cache'

setup: $(DEV)

# What serving needs: the runtime lock, a line that says where the source is, and the command.
$(RUN): requirements.txt
	@$(BIN)/python -c '' >/dev/null 2>&1 || { $(create); }
	@$(call install,--require-hashes -r $<)
	@$(BIN)/python -c 'import pathlib, sysconfig; \
	   pathlib.Path(sysconfig.get_path("purelib"), "balancer-checkout.pth").write_text(str(pathlib.Path("src").resolve()) + "\n")'
	@ln -sf ../../balancer $(BIN)/balancer
	@touch $@

# What developing needs, on top.
$(DEV): requirements-dev.txt $(RUN)
	@$(call install,--require-hashes -r $<)
	@touch $@

run: $(RUN)
	@$(BIN)/python src/main.py $(ARGS)

demo: $(RUN)
	@$(BALANCER) demo $(ARGS)

check: $(RUN)
	@$(BALANCER) check $(ARGS)

test: $(DEV)
	@$(BIN)/ruff format --check src tests bench
	@$(BIN)/ruff check src tests bench
	@$(BIN)/mypy src bench tests
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q -r s tests $(ARGS)

bench: $(DEV)
	@$(BIN)/python -m bench $(ARGS)

scorecard: $(DEV)
	@$(BIN)/python tests/live/scorecard.py

mutants: $(DEV)
	@PYTHONPATH=tests $(BIN)/python -m mutation.plant $(ARGS)

simulate: $(DEV)
	@PYTHONPATH=src:tests $(BIN)/python -m simulation $(SEEDS) $(ARGS)

soak: $(DEV)
	@$(BIN)/python -m bench.soak $(or $(MINUTES),10) $(ARGS)

simulate-faults: $(DEV)
	@PYTHONPATH=tests $(BIN)/python -m mutation.plant --list simulation/faults.toml $(ARGS)

screenshots: $(DEV)
	@$(BIN)/python tests/live/screenshots.py

tools: $(TOOLS)/node_modules/.bin/claude $(TOOLS)/llama/.ready

$(TOOLS)/node_modules/.bin/claude:
	@command -v npm >/dev/null || { echo 'npm is needed for the real Claude Code client; install Node.js' >&2; exit 1; }
	npm install --prefix $(TOOLS) --no-audit --no-fund --no-package-lock --loglevel=error @anthropic-ai/claude-code@$(CLAUDE)

# Apart from the tools, because it takes 420 MB.
codex: $(TOOLS)/node_modules/.bin/codex

$(TOOLS)/node_modules/.bin/codex:
	@command -v npm >/dev/null || { echo 'npm is needed for the real client Codex; install Node.js' >&2; exit 1; }
	npm install --prefix $(TOOLS) --no-audit --no-fund --no-package-lock --loglevel=error @openai/codex@$(CODEX)

$(TOOLS)/llama/.ready: requirements-tools.txt | $(RUN)
	@rm -rf $(@D)
	@$(call install,--target $(@D) --require-hashes --only-binary :all: -r $<)
	@touch $@

docs: $(DEV)
	@$(BIN)/python tests/modules_page.py
	@$(BIN)/python tests/refusals_page.py
	@$(BIN)/python tests/reference_pages.py

# Links and references that lead nowhere end it.
site: $(SITE)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

$(SITE): requirements-docs.txt $(DEV)
	@$(call install,--require-hashes -r $<)
	@touch $@

requirements:
	@set -e; for lock in "requirements.txt pyproject.toml" "requirements-dev.txt pyproject.toml --group dev" \
	   "requirements-docs.txt --group docs -c requirements-dev.txt" \
	   "requirements-build.txt --group build -c requirements-dev.txt" "requirements-tools.txt --group tools"; do \
	   set -- $$lock; out=$$1; shift; \
	   uv pip compile "$$@" --generate-hashes --universal --python-version 3.11 --no-strip-extras --no-emit-index-url \
	   --no-emit-find-links --no-header --no-annotate -q -o $$out; done

clean:
	rm -rf $(VENV) $(TOOLS) site dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
