# make help explains every target. PYTHON and VENV may be set: make test VENV=/path/to/venv
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Of `make experiment`: its preset, and whether it compares encoders or trains some. The comparisons need the runs of main.
PRESET = $(if $(filter miniature,$(SCALE)),miniature/)$(NAME)
SWEEP = multirun/$(NAME)/$(SCALE)
COMPARES = $(wildcard conf/comparison/$(NAME).yaml)
PUBLISHED = $(wildcard experiments/$(NAME)/paper.csv)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart experiment evidence check test test-long slow lint format bench memory docs reference pictures notebooks lock clean
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal  # bytecode is kept, a core each

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed  ## make the virtual environment .venv with everything that the other targets need

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,sentence-transformers,search,serve,onnx,sweep,joblib,submitit,tensorboard,dashboard,lora,docs,dev]'
	touch $@

quickstart: setup  ## train on the bundled text, no network needed, about a minute on two CPU cores
	$(BIN)/python -m simcse_lit.train experiment=quickstart

experiment: setup  ## a table or figure of the paper: NAME=temperature SCALE=miniature or paper; ARGS=... for more; see experiments/
	@test -n "$(NAME)" -a -d "experiments/$(NAME)" || { echo "NAME=$(NAME): one of" $(notdir $(patsubst %/README.md,%,$(wildcard experiments/*/README.md))); exit 1; }
	@test -n "$(filter miniature paper,$(SCALE))" || { echo "SCALE=$(SCALE): miniature or paper"; exit 1; }
ifneq ($(COMPARES),)
	$(BIN)/python -m simcse_lit.evaluate -m +comparison=$(PRESET) hydra.sweep.dir=$(SWEEP) $(ARGS)
ifeq ($(SCALE),miniature)
	$(BIN)/python -m experiments.compared $(NAME)
	$(BIN)/python -m experiments.evidence
endif
else ifeq ($(NAME),successors)
	$(BIN)/python -m experiments.protocol $(SCALE) $(ARGS)
	$(if $(filter miniature,$(SCALE)),$(BIN)/python -m experiments.dimensions $(ARGS))
	$(BIN)/python -m experiments.methods
else ifeq ($(SCALE),miniature)
	$(BIN)/python -m experiments.run $(NAME) $(if $(filter main,$(NAME)),--keep) $(ARGS)
	$(BIN)/python -m experiments.evidence
else
	$(BIN)/python -m simcse_lit.train -m +sweep=$(PRESET) hydra.sweep.dir=$(SWEEP) resume=auto $(ARGS)
	$(BIN)/python -m simcse_lit.report $(SWEEP) $(addprefix paper=,$(PUBLISHED)) out=experiments/$(NAME)/$(SCALE)
endif

evidence: setup  ## train the claims that matter most anew in miniature, and fail if a verdict changed; ARGS=... for more
	$(BIN)/python -m experiments.again $(ARGS)

check: lint  ## lint, and every test below half a second
	$(PYTEST) -m "not slow and not long"

test: setup  ## every test but the longest; those on real data run when SIMCSE_DATA or ../shared/data is there
	$(PYTEST) -m "not long"

test-long: setup  ## the longest tests: whole trainings, and the published scores of all six layers
	$(PYTEST) -m long

slow: setup  ## measure every test anew, alone on the machine, and write down those of half a second or more
	$(PYTEST) -m "not long" --write-slow

lint: setup  ## ruff, mypy and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup  ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup  ## speed against the peers, as ratios in one run, into docs/performance/benchmarks.md; needs SIMCSE_DATA
	$(BIN)/python -m pip install --quiet --no-deps simcse==0.4  # its pins of numpy and scipy are of 2021
	for name in training_step train_overhead encoding evaluation levers startup scaling; do \
	  $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/page.py

memory: setup  ## peak memory of large batches and of five million lines, into docs/performance/benchmarks.md; slow
	$(BIN)/python benchmarks/gradient_cache.py
	$(BIN)/python benchmarks/big_corpus.py
	$(BIN)/python benchmarks/page.py

pictures: setup  ## draw the pictures of docs/concepts/ again
	$(BIN)/python docs/concepts/pictures.py

docs: setup  ## build the site into build/docs; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --conf-dir docs . build/docs
	@echo "The site: build/docs/index.html"

reference: setup  ## write the pages of docs/reference/ that are made from conf/, its schema and the verbs
	$(BIN)/python docs/reference/generate.py

notebooks: setup  ## execute the tutorials anew, each in an empty folder, and store their outputs in them
	$(BIN)/python docs/tutorials/run.py

lock:  ## resolve constraints.txt anew; needs uv
	echo 'torch==2.13.0' | uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --no-annotate \
	  --no-header --constraint - --output-file constraints.txt

clean:  ## remove the virtual environment and everything generated
	rm -rf $(VENV) outputs multirun build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
