# Equipoise: every task of the project. `make` alone lists them; the first task that needs it makes .venv.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=
# Threads that spin while they wait make a training step ten times slower where another process wants the cores.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
# The parts of `check` print one after the other, also under `make -j`.
.NOTPARALLEL:
.PHONY: help install demo test check lint types imports lock bench study docs format clean

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## make .venv with the pinned dependencies, and nothing more

demo: $(INSTALLED) ## run the main job on an embedded scene; prints where the maps and the report are
	@$(BIN)/equipoise demo -o runs/demo

# Hundreds of processes are started: where Python is told to keep no bytecode, each would compile the package anew.
test: export PYTHONDONTWRITEBYTECODE =
# Two workers, mostly two cores: more threads would wait for each other.
test: export OMP_NUM_THREADS ?= 1
test: $(INSTALLED) ## run the tests (ARGS="-k name" chooses; EQUIPOISE_DATA adds real imagery)
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint types imports test ## what continuous integration runs: lint, types, import contracts, tests

lint: $(INSTALLED) ## check style and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(INSTALLED) ## check types, and that no file was left unchecked
	@.ci/types

imports: $(INSTALLED) ## check the import contracts
	@$(BIN)/lint-imports

format: $(INSTALLED) ## put the code in the house's format, and fix what can be fixed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# An existing requirements.txt keeps its versions; delete it first to move all of them.
lock: $(BIN)/uv ## pin the dependencies of pyproject.toml, with hashes, in requirements.txt
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-header --no-emit-index-url --no-emit-find-links --no-annotate --quiet -o requirements.txt

# Runs each script that the shell pattern $(1) names; $(2) says in words what is missing when there is none.
define run-each
@set -- $(1); \
if [ ! -e "$$1" ]; then echo "no $(2) yet ($(1)): nothing was run"; exit 0; fi; \
for script in "$$@"; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done
endef

bench: $(INSTALLED) ## measure speed and memory
	$(call run-each,benchmarks/*.py,benchmark)

# Only the studies of reliance can be short; their options must not reach the others.
STUDIES := $(if $(ARGS),benchmarks/studies/laws/run.py benchmarks/studies/*utilization/run.py,benchmarks/studies/*/run.py)

study: $(INSTALLED) ## remake the figures of the science studies (ARGS="--seeds 1" or --smoke: briefly, to look at)
	$(call run-each,$(STUDIES),study)

docs: $(INSTALLED) ## build the documentation site in build/site
# The variable silences the theme's notice about a successor of mkdocs, which is no fault of a page.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

clean: ## remove caches and built files; keeps .venv and runs
	@rm -rf build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	@find . \( -name .venv -o -name .git -o -name runs \) -prune -o -name __pycache__ -type d -exec rm -rf {} +
# The editable install reads the metadata that was just removed; the next task restores it in a second.
	@rm -f $(INSTALLED)

# The machine has no uv, so the environment carries its own. --python: an activated environment must not win.
$(BIN)/uv:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "found no '$(PYTHON)'; wanted Python 3.11 or newer; install it, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
		"found Python %d.%d; wanted 3.11 or newer; name one: make PYTHON=python3.12" % v[:2])'
	@echo "making .venv (once)"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# --no-config: the constraints under [tool.uv] in pyproject.toml are for `make lock`; here uv would ask hashes of them.
# --compile-bytecode: once here, and not in every process where Python is told to write none.
$(INSTALLED): requirements.txt pyproject.toml | $(BIN)/uv
	@echo "installing the pinned dependencies into .venv"
	@[ -t 2 ] || quiet=--quiet; \
	$(BIN)/uv pip install $$quiet --no-config --compile-bytecode --python $(BIN)/python --require-hashes \
		-r requirements.txt && \
	$(BIN)/uv pip install $$quiet --no-config --python $(BIN)/python --no-deps --no-build-isolation -e .
# mypy looks for the package under its own name; the checkout may be called anything.
	@mkdir -p .venv/src && ln -sfn ../.. .venv/src/equipoise
	@touch $@
