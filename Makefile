# One command per purpose; `make help` lists them. Everything that they install lies in the cache outside the tree
# (docs/development.md), so that a second run starts at once.

# The first interpreter that is new enough; tried, not just looked up, since version managers leave dead stubs.
ifndef BOOTSTRAP
BOOTSTRAP := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
endif
ifeq ($(BOOTSTRAP),)
$(error Python 3.11 or later is needed: install it, or name it with BOOTSTRAP=/path/to/python3)
endif

VENV := $(shell $(BOOTSTRAP) tests/toolchain/venv.py --path)
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# The console scripts `hookstead` and `kubectl-hooks` (so `kubectl hooks`) are this clone's in every recipe.
export PATH := $(VENV)/bin:$(PATH)
# Variables of the product that a developer's shell may hold must not reach the tests; these two are ours.
unexport $(filter-out HOOKSTEAD_REQUIRE_ALL HOOKSTEAD_OFFLINE,$(filter HOOKSTEAD_%,$(.VARIABLES)))

SOURCES := $(wildcard controller tests benchmarks examples)
TYPED := $(wildcard controller tests benchmarks)
# More than two cores' worth: the tests of processes wait more than they compute.
WORKERS ?= 4
ARGS ?=
SEEDS ?= 0:5000
GATEWAYS ?= 2

.DEFAULT_GOAL := help
.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- what the rest stands on

$(READY): pyproject.toml
	@$(BOOTSTRAP) tests/toolchain/venv.py >/dev/null

.PHONY: venv
venv: $(READY) ## The virtual environment of this clone, in the cache
	@echo $(VENV)

.PHONY: binaries
binaries: ## The programs that the tests run: etcd, API server, controller manager, kubectl, helm, strace
	@$(BOOTSTRAP) tests/toolchain/binaries.py

# ---- demonstrations

.PHONY: demo
demo: $(READY) ## The main job in one process: events in, verified webhooks out, a retry, a redelivery
	@$(PYTHON) examples/demo/embedded.py

.PHONY: demo-kubernetes
demo-kubernetes: $(READY) binaries ## The same story on a real API server, with operator, gateway and kubectl
	@PYTHONPATH=tests $(PYTHON) examples/demo/on_kubernetes.py

# ---- the gates

.PHONY: check
check: $(READY) ## Lint, format, types, room boundaries, freshness of generated files
	ruff check $(SOURCES)
	ruff format --check $(SOURCES)
	mypy $(TYPED)
	lint-imports --no-cache --no-logo
	$(PYTHON) tests/toolchain/fresh.py
	mkdocs build --quiet --strict -f .ci/mkdocs.yml -d "$(VENV)/site"

.PHONY: test
test: $(READY) binaries ## The whole suite, with everything that it needs; ARGS="tests/unit -k name" narrows it
	$(PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: contract
contract: $(READY) binaries ## The contract's sentences over gateways on one PostgreSQL database: GATEWAYS=2
	CONTRACT_GATEWAYS=$(GATEWAYS) $(PYTHON) -m pytest --numprocesses $(WORKERS) --dist loadgroup tests/contract $(ARGS)

.PHONY: nightly
nightly: $(READY) binaries ## The faults at length: 50 kills of each kind, ten minutes of parallel load on PostgreSQL
	FAULT_CYCLES=50 FAULT_SECONDS=600 $(PYTHON) -m pytest --numprocesses 2 --dist loadgroup \
		tests/faults/test_kill.py $(wildcard tests/faults/test_postgres_*.py) $(ARGS)

.PHONY: simulate
simulate: $(READY) ## The engine through simulated lives and power failures: SEEDS=0:20000, or SEEDS=17 for one in full
	@PYTHONPATH=controller:tests $(PYTHON) -m simulation.campaign $(SEEDS) $(ARGS)

.PHONY: mutants
mutants: $(READY) ## Put known bugs into the engine, one by one: does the simulator notice each?
	@PYTHONPATH=controller:tests $(PYTHON) -m simulation.mutants $(ARGS)

.PHONY: promises
promises: $(READY) binaries ## Run what stands behind every promise, and rewrite docs/promises.md: three quarters of an hour
	@$(PYTHON) tests/simulation/promises.py collect --seeds $(SEEDS)

.PHONY: docs
docs: $(READY) ## The documentation as a site, in the cache; every link and anchor is checked
	@mkdocs build --quiet --strict -f .ci/mkdocs.yml -d "$(VENV)/site"
	@echo "$(VENV)/site/index.html"

.PHONY: bench
bench: $(READY) ## The benchmarks, with the machine's description
	$(PYTHON) benchmarks/pipeline.py $(ARGS)

# ---- what is handed out

.PHONY: krew
krew: $(READY) ## The plugin `kubectl hooks` as an archive for krew, with its manifest, into dist/
	@$(PYTHON) .ci/krew/build.py dist $(or $(BASE_URL),$(error Say where the archive will be: make krew BASE_URL=https://…))

# ---- conveniences

.PHONY: format
format: $(READY) ## Rewrite the sources as `make check` wants them
	ruff check --fix-only $(SOURCES)
	ruff format $(SOURCES)

.PHONY: generate
generate: $(READY) ## Rewrite every generated file
	$(PYTHON) tests/toolchain/fresh.py --write

.PHONY: clean
clean: ## Remove caches and this clone's environment; built binaries stay (they took minutes)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist .hookstead "$(VENV)"
	find controller tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
