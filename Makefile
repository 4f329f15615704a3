# `make help` lists the targets. ARGS passes options on: make up ARGS="--host-netns lab2"
SHELL := /bin/bash
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
RUN := $(SUDO) .venv/bin/orchestrator
ARGS ?=

.DEFAULT_GOAL := help
LAYER ?=
.PHONY: help up down replay status verify test unit lint fix bench sweep chaos endurance recovery docs dashboards screenshots lock bootstrap bootstrap-dev bootstrap-bench

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

up: bootstrap ## install what is missing, bring the platform up, prove that it serves
	$(RUN) up $(ARGS)

down: bootstrap ## take everything away; the host is as it was (ARGS=--volumes: data too)
	$(RUN) down $(ARGS)

replay: bootstrap ## rebuild one layer: make replay LAYER=gateway
	$(RUN) replay $(LAYER) $(ARGS)

status: bootstrap ## what runs now
	$(RUN) status $(ARGS)

verify: bootstrap ## prove namespaces, bridge, pings, NAT, port forward and API flows
	$(RUN) verify $(ARGS)

test: lint ## everything that CI runs: lint, unit tests, tests in namespaces (root)
	$(SUDO) .venv/bin/python -m pytest tests -n 2 --dist loadfile $(ARGS)

unit: bootstrap-dev ## the fast tests only; no root needed
	.venv/bin/python -m pytest tests/unit $(ARGS)

lint: bootstrap-dev ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

fix: bootstrap-dev ## what ruff can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: bootstrap-bench ## measure beside the targets; writes docs/benchmarks.md (ARGS="--only network")
	$(SUDO) env PYTHONPATH=tests .venv/bin/python -m bench $(ARGS)

sweep: bootstrap-dev ## kill the orchestrator at every journal boundary; nothing may leak
	$(SUDO) env PYTHONPATH=tests .venv/bin/python tests/sweep.py $(ARGS)

chaos: bootstrap-dev ## 10,000 orders under random faults, then exact accounting (ARGS="--seed 7")
	$(SUDO) env PYTHONPATH=tests .venv/bin/python tests/chaos.py $(ARGS)

endurance: bootstrap-dev ## up and down 50 times; nothing may grow (ARGS="--cycles 50")
	$(SUDO) env PYTHONPATH=tests .venv/bin/python tests/endurance.py $(ARGS)

recovery: bootstrap-dev ## measure how fast each fault is healed; writes docs/recovery.md
	$(SUDO) env PYTHONPATH=tests .venv/bin/python -m bench.recovery $(ARGS)

docs: bootstrap-dev ## regenerate schema and pictures; the platform must be up, fresh
	.venv/bin/orchestrator schema > services/stack.schema.json
	.venv/bin/orchestrator graph --services --svg > docs/graph.svg
	$(RUN) topology --svg > docs/topology.svg
	$(RUN) analyze plot > docs/analyze.svg

dashboards: bootstrap-dev ## regenerate Grafana's dashboards from their code
	.venv/bin/python -m dashboards.generate

screenshots: bootstrap-dev ## pictures of the live page for the README, taken by its tests
	$(SUDO) env SCREENSHOTS=docs .venv/bin/python -m pytest tests/lab/test_page.py -k whole_lab $(ARGS)

LOCK = .venv/bin/uv pip compile -q --universal --generate-hashes --no-header --no-annotate

lock: bootstrap-dev ## pin the Python packages anew, within the ranges of pyproject.toml
	.venv/bin/python -m pip install -qq --disable-pip-version-check 'uv>=0.5,<1'
	$(LOCK) -o requirements.lock pyproject.toml
	$(LOCK) --extra dev -o requirements-dev.lock pyproject.toml

bootstrap:
	@$(SUDO) ./bootstrap.sh

bootstrap-dev:
	@$(SUDO) ./bootstrap.sh --dev

bootstrap-bench:
	@$(SUDO) ./bootstrap.sh --bench
