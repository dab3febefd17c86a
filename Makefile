# Two commands in a fresh clone: `make demo` and `make test`. Both make .venv if it is not there.
#
# torch comes first, so that whatever build you choose is kept: every later requirement accepts it.
# For another build:  make demo TORCH="torch --index-url <the index that pytorch.org names for it>"

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?= -n 2 -m "not gpu and not slow"

.PHONY: demo test check install peers gpu clean

demo: $(VENV)/.demo
	$(BIN)/saetools demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.demo

# The other tools, each at the version that the formats were checked against; tests/formats uses it.
PEERS ?= sae-lens==6.54.0 dictionary-learning==0.1.0 eai-sparsify==1.3.3

peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet $(TORCH)
	.venv-peers/bin/python -m pip install --quiet $(PEERS)

# Tests and measures on a GPU from this checkout, nothing installed; the script says what can be set.
gpu:
	PYTHON="$(PYTHON)" bash kernels/bench/gpu.sh

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "saetools needs Python 3.11 or newer; run: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info
