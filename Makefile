# Everyday work on the project. Each target installs what it needs (see .ci/setup).
PYTHON_BIN := .venv/bin/python
PYTEST_ARGS ?=
DEMO_ARGS ?=
PREFIX ?= /usr/local
DESTDIR ?=
LINKS ?= no
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= packets questions messages directories texts tokens

.PHONY: help setup demo test soak fuzz lint types bench profile clean
.PHONY: build-tools man completions dist wheels install uninstall

help:
	@echo "make demo     a cell in one process, mounted; CELL=openafs: real servers instead (root)"
	@echo "make test     lint, types, and the whole suite; PYTEST_ARGS='-k name' narrows it"
	@echo "make soak     the long forms of tests: big trees, many rounds, 100 kills"
	@echo "make fuzz     search the decoders for new paths, FUZZ_SECONDS=60 each of FUZZ_TARGETS"
	@echo "make bench    measure against afsd.fuse on the same cell (root); BENCH_ARGS=--json"
	@echo "make install  put it below PREFIX=/usr/local, DESTDIR=; LINKS=yes: aklog, fs, tokens, too"
	@echo "make uninstall  take away what was put there"
	@echo "make dist     wheel and sdist, in dist"
	@echo "make profile  where a cold read spends its time, layer by layer (root)"

setup:
	@.ci/setup

build-tools:
	@CELL=unneeded .ci/setup

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
	@.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

soak: setup
	@.venv/bin/pytest -m soak -n 2 --dist loadfile --no-loadscope-reorder -rP --no-header $(PYTEST_ARGS)

fuzz: setup
	@$(PYTHON_BIN) -c 'import atheris' 2>/dev/null || $(PYTHON_BIN) -m pip install -q -e '.[fuzz]'
	@for target in $(FUZZ_TARGETS); do echo "== $$target" && $(PYTHON_BIN) -m tests.fuzz.guided \
	    $$target -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -print_final_stats=1 || exit 1; done

bench:
	@CELL=required .ci/setup
	@$(PYTHON_BIN) -m tests.bench $(BENCH_ARGS)

profile:
	@CELL=required .ci/setup
	@$(PYTHON_BIN) -m tests.bench --profile

man completions: build-tools
	@$(PYTHON_BIN) -m afsfuse.manual build

dist: build-tools
	@$(PYTHON_BIN) -m build --no-isolation

# The program and what it needs, so that installing needs no network and compiles nothing.
wheels: build-tools
	@.ci/wheels

install: wheels man
	@$(PYTHON_BIN) .ci/install.py install --prefix "$(PREFIX)" --destdir "$(DESTDIR)" \
	    $(if $(filter yes,$(LINKS)),--links)

uninstall:
	@python3 .ci/install.py uninstall --prefix "$(PREFIX)" --destdir "$(DESTDIR)"

clean:
	rm -rf rxrpc/security/*.so afsfuse/fuse/*.so .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
