# `make help` lists the verbs. Each sets up what it needs first: .venv, its packages at the versions of
# constraints.txt, and the wheel, which is built anew only where its sources changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # steps share .venv and target/; cargo uses the cores

# The same order as in scripts/setup-debian.
export PATH := $(HOME)/.cargo/bin:$(PATH)

PIP := .venv/bin/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install -c constraints.txt
CARGO_FLAGS := --release --locked --workspace

# Folders too: their times tell when a file was deleted.
PACKAGED := $(wildcard crates python wit)
SOURCES := Cargo.toml Cargo.lock README.md LICENSE \
  $(shell find $(PACKAGED) -name __pycache__ -prune -o -name '_native*.so' -prune -o -print)
PYTHON_SCRIPTS := $(shell grep -lsE '^\#!.*python' scripts/* $(wildcard bench/*))
PYTHON_CODE := python tests capsules docs $(wildcard bench) $(PYTHON_SCRIPTS)

.PHONY: help demo test lint docs bench dist mutants fuzz lock clean

help: ## List the verbs
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: .venv/.capsa ## Build Capsa and watch it learn to route real LLM prompts
	.venv/bin/capsa demo

test: .venv/.dev .venv/.capsa ## Run all tests
	cargo test $(CARGO_FLAGS)
# What makes random tools for the oracle was built by the line above.
	CAPSA_REQUIRE_SMITH=1 .venv/bin/python -m pytest -n auto --dist loadfile

lint: .venv/.dev .venv/.capsa ## Check format, types, style, imports and sizes
	cargo fmt --all --check
# Clippy as the compiler of our own crates only: `cargo clippy` would check every dependency once more (3 minutes).
	RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ \
	  cargo build $(CARGO_FLAGS) --lib --bins --tests
	.venv/bin/ruff check $(PYTHON_CODE)
	.venv/bin/ruff format --check $(PYTHON_CODE)
	.venv/bin/mypy --scripts-are-modules $(PYTHON_CODE)
	MYPYPATH=python .venv/bin/python -m mypy.stubtest capsa._native
	PYTHONPATH=python .venv/bin/lint-imports --no-logo
	.venv/bin/python scripts/check-tree

docs: .venv/.dev .venv/.capsa ## Build the documentation into out/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

bench: .venv/.bench .venv/.capsa ## Measure against peers, and store the results
	scripts/setup-bench
	.venv/bin/python bench/run

dist: dist/.wheel ## Build the wheel into dist/
	@ls -l dist/*.whl

mutants: .venv/.dev .venv/.capsa ## Show that each deliberate fault is noticed by its test (NAMES="a b" selects)
	.venv/bin/python scripts/mutants $(NAMES)

fuzz: .venv/.dev .venv/.capsa ## Look for inputs that break what reads bytes (TARGETS="url id" SECONDS=600)
	.venv/bin/python scripts/fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(TARGETS)

lock: .venv/.base ## Bring constraints.txt and Cargo.lock in step with what is declared
	$(INSTALL) --group lock
	.venv/bin/uv pip compile --quiet --universal --all-extras $(foreach g,build test lint bench docs lock,--group $g) \
	  --custom-compile-command 'make lock' -o constraints.txt pyproject.toml
	cargo update --workspace

clean: ## Remove everything that was built
	rm -rf .venv dist target

.venv/.base: pyproject.toml constraints.txt
	scripts/setup-debian
	scripts/find-python -m venv .venv
	$(INSTALL) pip
	$(INSTALL) --group build
	@touch $@

.venv/.dev: .venv/.base
	$(INSTALL) --group test --group lint --group docs
	@touch $@

.venv/.bench: .venv/.base
	$(INSTALL) --group bench
	@touch $@

dist/.wheel: .venv/.base $(SOURCES)
	rm -f dist/*.whl
	.venv/bin/maturin build --release --locked --interpreter .venv/bin/python --out dist
	@touch $@

# pip leaves a package alone whose version it already has, however new the wheel.
.venv/.capsa: dist/.wheel
	$(PIP) --quiet uninstall --yes capsa
	$(INSTALL) "$$(echo dist/capsa-*.whl)[demo]"
	@touch $@
