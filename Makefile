# `make up` is all it takes: it sets up the environment on first use, starts everything and checks that it talks.
.DEFAULT_GOAL := help
BIN := .venv/bin
UP ?=
.PHONY: help setup up down test check bench lock

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 16

setup:  ## Create or repair .venv from requirements/cpu.lock
	@scripts/setup.sh

up: setup  ## Start the platform on this machine (flags: make up UP="--port 8080")
	@$(BIN)/artistmind up $(UP)

down:  ## Stop it; data stays
	@test ! -x $(BIN)/artistmind || $(BIN)/artistmind down

test: setup  ## Unit, integration and end-to-end tests
	$(BIN)/python -m pytest tests/unit tests/integration tests/e2e

check: setup  ## Lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Load test of the running platform, with a report
	$(BIN)/python -m loadtest.bench

lock: setup  ## Resolve requirements/cpu.in into cpu.lock
	$(BIN)/python scripts/lock.py
