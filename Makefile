# `make` lists the targets. Each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STACK ?= lab
LABS ?= 2
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,XDG_CACHE_HOME,PROXMOX_SWARM_LAB,PROXMOX_SWARM_DEBUG)
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help up down preview test lint format bench chaos toolchain venv lock clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

venv: $(READY)

$(READY): requirements/dev.txt requirements/schema.txt pyproject.toml
	@./toolchain/venv.sh $(VENV) $(PYTHON)
	@touch $@

toolchain: $(READY) ## Pulumi, its plugins and the Python environment
	@$(BIN)/python -m proxmox_swarm.toolchain

up: $(READY) ## From nothing to a running swarm in the lab, then what is there (again: no change)
	@$(SUDO) $(BIN)/proxmox-swarm up --stack $(STACK)

preview: $(READY) ## What `up` would change (STACK=prod: works without lab, network or credentials)
	@$(if $(filter lab,$(STACK)),$(SUDO)) $(BIN)/proxmox-swarm preview --stack $(STACK)

down: $(READY) ## Destroy the lab's stack and stop the lab (the lab only)
	@$(SUDO) $(BIN)/proxmox-swarm down --stack $(STACK)

test: $(READY) ## All tests: unit, contract, lab (real machines; needs root; LABS=2: so many labs at a time)
	@$(SUDO) $(BIN)/proxmox-swarm prepare
	@$(SUDO) $(BIN)/pytest tests/unit tests/contract
	@$(SUDO) $(BIN)/pytest --numprocesses $(LABS) --dist loadfile --durations 25 tests/lab

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## Rewrite the code in the one style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## Times as ratios within one run (WHAT="calls previews": these alone)
	@$(SUDO) $(BIN)/python -m tests.bench $(WHAT)

chaos: $(READY) ## Changes while something breaks, in a lab of its own: ROUNDS=30 SEED=any; ROUND=7 plays one of a seed
	@$(SUDO) $(BIN)/proxmox-swarm prepare
	@$(SUDO) $(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),30) --seed "$(SEED)" $(if $(ROUND),--only $(ROUND)) $(if $(KEEP),--keep)

lock: $(READY) ## Pin requirements anew, with hashes
	@cd requirements && ../$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file dev.txt dev.in
