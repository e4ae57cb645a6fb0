# `make help` lists the targets. Two of them are all a newcomer needs: `make fit` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
BENCH   ?= .venv-bench
# one more than two cores have: some tests wait for other processes to die
JOBS    ?= 3
PARTS   = block epoch roofline memory threads libraries overhead startup
DEPS    = setup.cfg setup.py constraints.txt pyproject.toml $(wildcard popularity/models/kernels/*)

.DEFAULT_GOAL = help
.PHONY: help fit test test-slow lint docs tensorboard clean bench tables bench-gpu $(addprefix bench-,$(PARTS))

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.run: $(DEPS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[dev]'
	@touch $@

fit: $(VENV)/.run  ## create .venv, install, and train on the embedded data set
	$(BIN)/python -m popularity fit

test: $(VENV)/.test  ## install the test extra and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow'

test-slow: $(VENV)/.test  ## the long tests: kills in mid-work, two processes, browsers, sanitizers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: $(VENV)/.dev  ## build the pages of docs/ into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The peers live in an environment of their own: DeepTab wants pandas below 3. The package is run from this folder.
$(BENCH)/.done: benchmarks/constraints.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --disable-pip-version-check $$(grep '^torch==' benchmarks/constraints.txt)
	$(BENCH)/bin/python -m pip install --disable-pip-version-check -r benchmarks/constraints.txt
	@touch $@

bench: $(addprefix bench-,$(PARTS))  ## every benchmark, half an hour; one alone: make bench-block, bench-memory, ...

bench-block bench-epoch bench-memory bench-libraries bench-roofline: bench-%: $(VENV)/.run $(BENCH)/.done
	$(if $(filter libraries,$*),$(BIN)/python benchmarks/rows.py)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BENCH)/bin/python benchmarks/$*.py

tables: $(VENV)/.run  ## write the tables of README and docs from the files of measurements
	PYTHONPATH=. $(BIN)/python benchmarks/readme.py

bench-threads: $(VENV)/.run
	$(BIN)/python benchmarks/threads.py

bench-overhead: $(VENV)/.run
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/overhead.py

# where there is a GPU, and PyTorch for CUDA in the environment; gpu_fit.py takes --songs FOLDER for batches of 4,096
bench-gpu: $(VENV)/.run
	PYTHONPATH=. $(BIN)/python benchmarks/gpu.py
	PYTHONPATH=. $(BIN)/python benchmarks/gpu_fit.py

bench-startup: $(VENV)/.run
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python benchmarks/startup.py

tensorboard: $(VENV)/.run  ## look at the runs in a browser
	$(BIN)/tensorboard --logdir lightning_logs

clean:  ## remove the environment and build leftovers, never a run
	rm -rf $(VENV) $(BENCH) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
