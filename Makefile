# make .venv   the environment, pinned by requirements.lock
# make demo    train and look at the embedded example
# make test    everything that must be clean before a change is merged
# make bench   how fast, beside the peers: ten minutes on two quiet cores (docs/benchmarks.md)

PYTHON ?= python3
BIN := .venv/bin
PINNED := --constraint requirements.lock
PEERS := .venv-peers/bin
FORM ?= quick

.PHONY: .venv .venv-peers demo test bench

.venv: .venv/installed

# The lock is a constraint and not a list to install: pip takes what pyproject.toml asks for, at the versions pinned
# here, so that CUDA's libraries come only where torch's build wants them, and a pin that contradicts pyproject.toml is
# an error. setuptools comes first and builds without isolation, because an isolated build would fetch the newest one.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "expected Python 3.11 or newer at '$(PYTHON)', found: $$($(PYTHON) --version 2>&1);" \
	    "name another, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PINNED) setuptools
	$(BIN)/python -m pip install --quiet $(PINNED) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: .venv
	$(BIN)/ushape demo

test: .venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

# The peers have an environment of their own. torch comes first and with what it needs; all else is in the lock, so that
# nothing brings a package that the lock does not name, such as another build of torch.
.venv-peers: .venv-peers/installed

.venv-peers/installed: benchmarks/peers.lock
	$(PYTHON) -m venv .venv-peers
	$(PEERS)/python -m pip install --quiet $$(grep '^torch==' benchmarks/peers.lock)
	$(PEERS)/python -m pip install --quiet --no-deps --requirement benchmarks/peers.lock
	@touch $@

bench: .venv-peers
	PYTHONPATH=src $(PEERS)/python benchmarks/speed_all.py --form $(FORM)
