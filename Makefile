# Everyday work on the project. Each target installs what it needs (see .ci/setup).
PYTHON_BIN := .venv/bin/python
PYTEST_ARGS ?=
DEMO_ARGS ?=

.PHONY: help setup demo test soak lint types bench profile clean

help:
	@echo "make demo     a cell in one process, mounted; CELL=openafs: real servers instead (root)"
	@echo "make test     lint, types, and the whole suite; PYTEST_ARGS='-k name' narrows it"
	@echo "make soak     the long forms of tests: big trees, many rounds, 100 kills"
	@echo "make bench    measure against afsd.fuse on the same cell (root); BENCH_ARGS=--json"
	@echo "make profile  where a cold read spends its time, layer by layer (root)"

setup:
	@.ci/setup

demo:
ifeq ($(CELL),openafs)
	@CELL=required .ci/setup
	@$(PYTHON_BIN) -m tests.demo
else
	@CELL=unneeded .ci/setup
	@.venv/bin/afsfuse demo $(DEMO_ARGS)
endif

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

types: setup
	@.venv/bin/mypy

test: lint types
	@.venv/bin/pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

soak: setup
	@.venv/bin/pytest -m soak -n 2 --dist loadgroup -rP --no-header $(PYTEST_ARGS)

bench:
	@CELL=required .ci/setup
	@$(PYTHON_BIN) -m tests.bench $(BENCH_ARGS)

profile:
	@CELL=required .ci/setup
	@$(PYTHON_BIN) -m tests.bench --profile

clean:
	rm -rf rxrpc/security/*.so .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
