# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make figures   installs into .venv and draws the figures from the shipped models and demo videos
#   make test      installs into .venv and runs every check and test
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: figures rendered docs guides test coverage test-lowest lint lab fuzz gpu clean

figures: $(VENV)/.figures
	$(BIN)/gmsa figures

# The pictures that the README shows, which are committed.
rendered: $(VENV)/.figures
	$(BIN)/gmsa figures --out figures/rendered

# The documentation, as pages that open from the disk: build/docs/index.html. Warnings are errors; pages of docs/concepts
# are executed. To look at one page while writing it, leave -E out: what has not changed is then not read again.
docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -E -j 2 -d build/doctrees docs build/docs
	@echo "wrote build/docs/index.html"

# Byte code is kept, whatever the shell says: the tests start hundreds of processes.
TESTING := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1

test: $(VENV)/.test lint
	$(TESTING) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same tests, and which lines of the packages none of them runs; of some tests: make coverage TESTS=tests/analysis.
TESTS ?= tests
coverage: $(VENV)/.test
	$(TESTING) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(TESTS)

# The lowest versions of what the package needs, and of what runs its tests: records and their files, overviews, figures
# and tables. torch is the pinned build, which stands for its own bound: old builds cannot be had everywhere. Warnings
# are not errors there: old libraries warn of new ones.
LOWEST := $(VENV)-lowest
test-lowest: $(LOWEST)/.installed
	$(TESTING) $(LOWEST)/bin/python -m pytest -q -n 2 -o filterwarnings=default tests/analysis/record/test_record.py \
	  tests/analysis/record/test_record_file.py tests/figures/test_overview.py tests/figures/paper/test_figures_drawn.py \
	  tests/figures/pipeline/test_figures_tables.py

$(LOWEST)/.installed: pyproject.toml constraints.txt tests/lowest_versions.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) tests/lowest_versions.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/lowest.txt -e . \
	  beartype hypothesis pytest pytest-xdist $$(grep '^torch==' constraints.txt)
	@touch $@

# What the README and the guides say, command by command, by a wheel in a new environment outside the checkout.
GUIDES ?= ../gmsa-guides
guides: $(VENV)/.figures
	$(BIN)/python benchmarks/guides.py --folder $(GUIDES)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

lab: $(VENV)/.notebooks
	$(BIN)/gmsa lab

# On a machine with a GPU, in under 8 minutes: what runs there beside the CPU's numbers. Elsewhere it says that there is none.
gpu: $(VENV)/.test
	$(BIN)/python benchmarks/gpu.py

# Coverage-guided, each reader for so many seconds; what is found lies in tests/fuzz/found.
SECONDS ?= 60
FUZZED ?= tfrecord checkpoint record attributes zarr catalogue sweep npz npy hdf5 parquet
fuzz: $(VENV)/.fuzz
	for reader in $(FUZZED); do $(BIN)/python tests/fuzz/run.py $$reader $(SECONDS) || exit 1; done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Set PYTHON=/path/to/python3.11" if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# torch first and alone: the pinned build, so that nothing else pulls in another one.
$(VENV)/.torch: $(BIN)/python constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	@touch $@

$(VENV)/.figures: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks,test]'
	@touch $@ $(VENV)/.figures

$(VENV)/.docs: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@ $(VENV)/.figures

$(VENV)/.fuzz: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

$(VENV)/.notebooks: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[notebooks]'
	@touch $@ $(VENV)/.figures

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage .hypothesis .import_linter_cache
