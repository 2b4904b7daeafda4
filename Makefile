.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled once, also where the environment says not to keep them: tests start Python hundreds of times.
export PYTHONDONTWRITEBYTECODE :=
# Where `make up` keeps its data and logs.
SHOP := .shop
# Two cores suit the smallest machines that continuous integration offers: a worker for each, or two where tests mostly wait.
WORKERS ?= 2
WAITING ?= 4
# The tests that need nothing but the environment; each of the others has a verb of its own.
ALONE := "not (charts or crash or e2e or observed or pair or play or processes or topologies)"

.PHONY: help
help: ## list what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Nothing is resolved here: what is installed is exactly what the lists name, whatever is released meanwhile.
PINNED := --require-hashes --only-binary :all:
MEMBERS := libs/lock libs/servicekit libs/tandem libs/devkit apps/invoice apps/order

$(VENV)/.ready: requirements/build.txt requirements/dev.txt $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the environment in $(VENV) (once, some seconds)"
	@$(PYTHON) -m venv $(VENV)
	@$(if $(PIP_VERSION),$(BIN)/python -m pip install -q pip==$(PIP_VERSION))
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps $(PINNED) -r requirements/build.txt
	@$(BIN)/uv pip sync -q --python $(BIN)/python $(PINNED) requirements/dev.txt || { \
	  echo "uv could not install; pip, which has settings of its own, tries now (a minute or two)"; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps $(PINNED) -r requirements/dev.txt; }
	@$(BIN)/uv pip install -q --python $(BIN)/python --offline --no-sources --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@$(BIN)/uv pip check -q --python $(BIN)/python || { \
	  echo "A member needs what no list names: \`make lock\` pins it"; exit 1; }
	@touch $@

.PHONY: env
env: $(VENV)/.ready ## make the Python environment in .venv

.PHONY: envs
envs: $(VENV)/.ready ## make environments with old pips, and look for a wheel of every pin on every platform
	@$(BIN)/python -m tools.environments

.PHONY: up
up: $(VENV)/.ready ## run the whole shop on this machine until Ctrl-C (OBSERVE=1: Prometheus and Jaeger too; PLAY=1: the playground)
	@$(BIN)/python -m $(if $(filter-out 0,$(PLAY)),tools.playground,devkit up) --folder $(SHOP)

.PHONY: play
play: $(VENV)/.ready ## a page on which to use the shop, break it and watch, on a shop of its own
	@$(BIN)/python -m tools.playground

.PHONY: demo
demo: $(VENV)/.ready ## watch the running shop being driven (or one started for the purpose)
	@$(BIN)/python -m devkit demo --folder $(SHOP)

.PHONY: test
test: $(VENV)/.ready ## run the tests, but for those that have a verb of their own below
	@$(BIN)/python -m pytest -n $(WAITING) -m $(ALONE) $(ARGS)

.PHONY: test-charts
test-charts: $(VENV)/.ready ## render the charts in every combination, run the Tiltfile, build the images
	@if command -v helm >/dev/null; then $(MAKE) --no-print-directory charts; fi
	@$(BIN)/python -m pytest -n $(WORKERS) -m charts tests/charts tests/tilt tests/images tests/observability $(ARGS)

.PHONY: test-crash
test-crash: $(VENV)/.ready ## make every step of every change fail in every way: what heals, and what the lock alone loses
	@$(BIN)/python -m pytest -n $(WORKERS) -m crash tests/crash $(ARGS)

.PHONY: test-processes
test-processes: $(VENV)/.ready ## run both services as processes: make up, restarts, crashes, upgrades, the audit, fuzzing
	@$(BIN)/python -m pytest -n $(WORKERS) -m processes \
	  apps/invoice/tests libs/devkit/tests tests/api tests/observability tests/repository tests/together tests/truth $(ARGS)

.PHONY: truth
truth: $(VENV)/.ready ## make 2,000 random requests under bad conditions and judge every answer (SEED=N: again)
	@$(BIN)/python -m tests.truth $(if $(SEED),--seed $(SEED))

.PHONY: test-observed
test-observed: $(VENV)/.ready ## run the tests on Prometheus and Jaeger (OBSERVED_REQUIRED=1: fail without)
	@$(BIN)/python -m pytest -n $(WORKERS) -m observed tests/observability $(ARGS)

.PHONY: test-topologies
test-topologies: $(VENV)/.ready ## try the lock with Sentinels, as a Cluster and as a quorum, the shop in a failover, and locks of others (PEERS_REQUIRED=1: fail without)
	@$(BIN)/python -m pytest -n $(WAITING) -m topologies libs/lock/tests/topologies tests/together $(ARGS)

.PHONY: test-play
test-play: $(VENV)/.ready ## run the playground's tests in a real browser (PLAY_REQUIRED=1: fail without Chromium)
	@$(BIN)/python -m pytest -m play tests/playground $(ARGS)

.PHONY: test-pair
test-pair: $(VENV)/.ready ## make the example's pair of services fail in the middle, and try the page that builds it
	@$(BIN)/python -m pytest -n $(WORKERS) -m pair tests/pair $(ARGS)

.PHONY: test-package
test-package: $(VENV)/.ready ## build the lock's wheel, install it alone, and run its tests there
	@$(BIN)/python -m tools.lock_package

.PHONY: check
check: $(VENV)/.ready ## lint, formatting, types, import contracts, what must not be tracked
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.tracked

.PHONY: fmt
fmt: $(VENV)/.ready ## format the code and fix what can be fixed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: cov
cov: $(VENV)/.ready ## run the tests and show what they do not reach
	@$(BIN)/python -m pytest -n $(WORKERS) -m $(ALONE) --cov --cov-report=term-missing $(ARGS)

.PHONY: bench-services
bench-services: $(VENV)/.ready ## the shop beside what the same work costs with less (ARGS=--help)
	@$(BIN)/python -m bench.services $(ARGS)

.PHONY: generated
generated: $(VENV)/.ready ## write anew all that is generated: dashboards, docs/metrics.md, the charts' schemas and READMEs
	@$(BIN)/python -m tools.dashboards
	@$(BIN)/python -m tools.metrics_page
	@$(BIN)/python -m tools.chartdocs

.PHONY: lock
lock: ## pin every dependency anew, with hashes (requirements/, apps/*/requirements.txt)
	@# Not when the lists say less than the members need: that is what it mends.
	@test -e $(VENV)/.ready || $(MAKE) --no-print-directory env
	@$(BIN)/python -m tools.pins

.PHONY: clean
clean: ## remove the data of `make up` and everything generated, but not .venv
	@pid=$$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' $(SHOP)/run.json 2>/dev/null); \
	  if [ -n "$$pid" ] && kill -0 "$$pid" 2>/dev/null; then \
	    echo "The shop runs (process $$pid). Stop it first, with Ctrl-C there."; exit 1; fi
	@rm -rf $(SHOP) .coverage .coverage.* htmlcov artifacts .mypy_cache .pytest_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Kubernetes: charts, images, a kind cluster, end-to-end tests ---------------------------------------------------------

CLUSTER ?= shop
KIND_IMAGE ?= kindest/node:v1.34.0
OBSERVE ?= no

.PHONY: charts
charts: ## pack the charts into the charts that are made of them (fetches nothing)
	@command -v helm >/dev/null || { echo "helm is not on the PATH"; exit 1; }
	@for chart in redis postgres order invoice shop observability; do \
	  helm dependency update --skip-refresh charts/$$chart >/dev/null || exit 1; done

.PHONY: chart-docs
chart-docs: $(VENV)/.ready ## write the charts' schemas and READMEs from their values
	@$(BIN)/python -m tools.chartdocs

.PHONY: cluster
cluster: charts ## the shop in a kind cluster, and how to reach it (OBSERVE=all|jaeger: see into it)
	@$(PYTHON) k8s/cluster.py --name $(CLUSTER) --node-image $(KIND_IMAGE) --observe $(OBSERVE)

.PHONY: cluster-down
cluster-down: ## remove the kind cluster and everything in it
	@kind delete cluster --name $(CLUSTER)

.PHONY: e2e
e2e: $(VENV)/.ready charts ## every test that needs a cluster, on one of its own (E2E_REQUIRED=1: fail without)
	@$(BIN)/python -m pytest -m e2e tests/e2e $(ARGS)
