# Everything that a person does with Whetstone. LOG=kafka runs the demo and the service on Apache Kafka.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c "" 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
WHETSTONE := $(if $(LOG),WHETSTONE_LOG=$(LOG) )$(BIN)/whetstone
PYTEST := $(BIN)/python -m pytest

.PHONY: setup demo up down check test test-long bench migration clean

setup:            ## virtual environment, pinned packages, demo model, tables, keys
	@$(PYTHON) deploy/bootstrap.py

demo: setup       ## watch the model get better from simulated users
	@$(WHETSTONE) demo

up: setup         ## start the service and keep it running
	@$(WHETSTONE) up

down:             ## stop it from elsewhere
	@if [ -x $(BIN)/whetstone ]; then $(WHETSTONE) down; fi

check: setup      ## how the code reads
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: check       ## the checks, and all tests but the long ones, two files at a time
	@$(PYTEST) -n 2 --dist loadfile -m "not long" --ignore tests/benchmarks

test-long: setup  ## the tests that take minutes or need the real model
	@$(PYTEST) -m long --ignore tests/benchmarks

bench: setup      ## how fast it is, as ratios
	@for one in log ingest pairing; do $(BIN)/python -m tests.benchmarks.bench_$$one || exit 1; done

migration: setup  ## NUMBER=0002 MESSAGE="..." writes the revision for changed tables
	@$(BIN)/python -m deploy.migrations.revise "$(NUMBER)" "$(MESSAGE)"

clean:            ## remove what the set-up and the checks made, except var/, where data is
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
