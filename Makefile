# `make demo` and `make test` are all that a fresh clone needs. Both set up what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := python3-venv iproute2 iptables util-linux procps

.PHONY: demo test lint setup system bench bench-delays bench-linearizability bench-checkers bench-promises bench-split-brain bench-bugs bench-transactions bench-report bench-findings clean

demo: setup
	$(BIN)/python -m benchmarks.demo

test: setup
	$(BIN)/pytest -n 6 --dist loadgroup --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.throughput

bench-delays: setup
	$(BIN)/python -m benchmarks.delays

bench-linearizability: setup
	$(BIN)/python -m benchmarks.linearizability

bench-checkers: setup
	$(BIN)/python -m benchmarks.checkers

bench-promises: setup
	$(BIN)/python -m benchmarks.promises

bench-split-brain: setup
	$(BIN)/python -m benchmarks.split_brain

bench-bugs: setup
	$(BIN)/python -m benchmarks.bugs --write

bench-transactions: setup
	$(BIN)/python -m benchmarks.transactions

bench-report: setup
	$(BIN)/python -m benchmarks.report

bench-findings: setup
	$(BIN)/python -m benchmarks.findings --write

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt | system
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "splitbrain needs Python 3.11 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# The few Debian or Ubuntu packages that nodes in namespaces need; only what is missing is installed.
system:
	@missing=; PATH="$$PATH:/usr/local/sbin:/usr/sbin:/sbin"; for tool in ip iptables unshare nsenter setpriv hostname; do command -v $$tool >/dev/null 2>&1 || missing=yes; done; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing=yes; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $(PACKAGES) hostname; \
	  else echo "please install what is missing: sudo apt-get install $(PACKAGES) hostname" >&2; exit 1; fi; fi

clean:
	rm -rf $(VENV) runs hunts build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
