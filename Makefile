# `make` alone says what there is. Tests side by side: JOBS=4. More for pytest: ARGS="-k target".
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The tests start some thousand processes from this tree: its modules are compiled once, not each time
unexport PYTHONDONTWRITEBYTECODE
CORES := $(shell nproc)
# most of the whole suite waits for what it has started, so two for each core; what is quick computes
JOBS ?= $(shell expr 2 \* $(CORES))
quick fuzz coverage other-python: JOBS = $(CORES)
ARGS ?=
BIN_ := .venv/bin
PYTEST = $(BIN_)/python -m pytest -q -n $(JOBS) --dist loadgroup --no-loadscope-reorder

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' $(MAKEFILE_LIST)

demo: .venv/.installed ## set everything up, jump through a relay on this machine, show what was recorded (KEEP=1 leaves it running)
	@tools/packages.sh demo
	@$(BIN_)/python tools/demo.py $(if $(KEEP),--keep)

lab: .venv/.installed-dev ## the network plan in namespaces, and a shell at its client (PLANT=1: two sites; RUN=COMMAND: that alone)
	@tools/packages.sh lab
	@$(BIN_)/python tools/lab.py $(if $(PLANT),--plant) $(if $(RUN),'$(subst ','\'',$(RUN))')

demo-stop: ## end what `make demo KEEP=1` left running
	@python3 tools/demo.py --stop

test: ## every test; installs Debian packages that are missing (STRICT=1: a skipped test is a failure)
	@tools/packages.sh
	@$(MAKE) --no-print-directory lint
	RELAY_STRICT=$(STRICT) $(PYTEST) $(ARGS)

other-python: .venv/.installed-dev ## the tests without root, and real jumps, with a newer Python than that of .venv, where there is one
	@VENV=.venv-other PYTHON=$$(tools/other_python.sh) tools/venv.sh dev
	RELAY_STRICT=$(STRICT) RELAY_HYPOTHESIS=quick .venv-other/bin/python -m pytest -q -n $(JOBS) --dist loadgroup \
		--no-loadscope-reorder -m '(not system and not slow) or other_python' $(ARGS)

quick: .venv/.installed-dev ## the inner loop, under a minute: no root, no sshd, no namespaces
	@$(MAKE) --no-print-directory lint
	RELAY_HYPOTHESIS=quick $(PYTEST) -m 'not system and not slow' $(ARGS)

lint: .venv/.installed-dev ## ruff, mypy and the layers
	@$(MAKE) --no-print-directory -j $(CORES) --output-sync=target lint-text lint-types lint-layers

lint-text:
	$(BIN_)/ruff check .
	$(BIN_)/ruff format --check .

lint-types:
	$(BIN_)/mypy

lint-layers:
	$(BIN_)/lint-imports

fuzz: .venv/.installed-dev ## every parser with 20,000 examples each, new ones every time; then a relay with 100 random lives
	RELAY_HYPOTHESIS=fuzz $(PYTEST) -m 'not system and not slow' --timeout 3600 $(ARGS)
	RELAY_HYPOTHESIS=fuzz $(BIN_)/python -m pytest -q -n 0 -s tests/serve/test_interleavings.py

soak: .venv/.installed-dev ## 1,000 kills of the audit log's writer, then half an hour of random load, kills, reloads and hand-overs; then nothing may have leaked (MINUTES=5)
	$(BIN_)/python -m tests.store.crashes 1000
	$(BIN_)/python tools/soak.py $(or $(MINUTES),30) $(ARGS)

coverage: .venv/.installed-dev ## which lines and branches of relay/core no test reaches
	$(PYTEST) tests/core --cov=relay.core --cov-branch --cov-report=term-missing $(ARGS)

load: .venv/.installed-dev ## the load that the relay is to hold, each figure with pass or miss (ARGS=idle: that alone)
	$(BIN_)/python bench/load.py $(ARGS)

bench: .venv/.installed ## this relay beside OpenSSH's sshd as a jump host, into docs/reference/benchmarks.md (ARGS=--growth: that part)
	$(BIN_)/python bench/compare.py --write docs/reference/benchmarks.md $(ARGS)

bench-quick: .venv/.installed ## the same in two minutes, printed only
	$(BIN_)/python bench/compare.py --quick $(ARGS)

install: ## into /opt/relay/VERSION with the link `current`, and /usr/local/bin/relayctl (sudo make install)
	@tools/install.sh

uninstall: ## take that away again; sites and state stay
	@tools/install.sh remove

units: .venv/.installed ## write packaging/systemd anew after a change of relay/site/systemd_units.py
	$(BIN_)/python -m relay.site.systemd_units packaging/systemd

venv: .venv/.installed-dev ## .venv with the package and what the tests need (PYTHON=/path/to/python3.12)

clean: ## remove what can be made again
	rm -rf .venv .venv-other .demo build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*
	find relay tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml tools/venv.sh
	@tools/venv.sh

.venv/.installed-dev: pyproject.toml tools/venv.sh
	@tools/venv.sh dev

.PHONY: help lab demo demo-stop test quick other-python lint lint-text lint-types lint-layers fuzz soak coverage load bench bench-quick install uninstall units venv clean
