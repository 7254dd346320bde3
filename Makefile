# make demo, make test: each makes its own virtual environment first. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# The environment. `make test VENV=/path` uses an existing one as it is, and makes it where there is none.
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# The Python to make it with: python3.11 if it runs, else another one that is new enough.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

# What the demo of real photos works on; `make demo-photos FACES=folder PACK=folder`.
SHARED := ../shared
FACES ?= $(SHARED)/faces
PACK ?= $(SHARED)/models/real_pack
PARSER ?= $(SHARED)/models/parse_skin_cloth_hair.onnx
OUT ?= out/demo

PIP := $(PY) -m pip --disable-pip-version-check

.PHONY: help venv demo demo-photos test test-slow lint format gpu clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# An environment named on the command line that this Makefile did not make is used as it is. An unfinished one (no pip,
# no stamp) is completed.
ifneq ($(origin VENV),file)
ifneq ($(wildcard $(PY)),)
ifeq ($(wildcard $(VENV)/.made-by-make),)
FOREIGN := yes
endif
endif
endif

ifdef FOREIGN
venv:
	@echo "using $(VENV) as it is"
else
venv: $(STAMP)  ## make the virtual environment and install into it, where anything changed
endif

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "no Python 3.11 or newer found on the PATH; install one, or name it: make venv PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
		"%s is Python %d.%d; 3.11 or newer is needed: make venv PYTHON=/path/to/python3.11" % (sys.executable, *sys.version_info[:2]))'
	@if ! { [ -f $(VENV)/.made-by-make ] && $(PIP) --version >/dev/null 2>&1; }; then \
		$(PYTHON) -m venv --clear $(VENV); touch $(VENV)/.made-by-make; fi
	$(PIP) install --quiet -c constraints.txt torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[pipeline,dev]'
	@if [ -f $(VENV)/.gpu ]; then $(MAKE) --no-print-directory swap-onnxruntime; fi
	@touch $@

demo: venv  ## the whole chain in minutes: drawn faces, dataset, training, evaluation, pictures; into OUT (out/demo)
	@mkdir -p "$(OUT)" && sed 's|out/demo|$(OUT)|g' configs/changes/demo.yaml > "$(OUT)/changes.yaml"
	$(PY) -m flows.cli pipeline --config configs/miniature.yaml --changes "$(OUT)/changes.yaml"
	@# a missed bar is said in the table; the command by itself exits 1 then, the demo has still done its work
	@echo; $(PY) -m ray_jobs.miniature_proof "$(OUT)/album" "$(OUT)/dataset" || [ $$? -eq 1 ]
	@echo; rm -rf "$(OUT)/pictures" "$(OUT)/pictures-shipped"; photos=("$(OUT)"/people/people/*); \
	draw() { $(PY) -m flows.cli generate --encoder "$$1" --images "$${photos[0]}" --out "$$2" \
		--base package://adaface.miniature/weights/sd --negative '' --steps 20 --images-per-prompt 2 \
		--prompt 'a photo of a z' --prompt 'a photo of a z on the beach' --prompt 'a photo of a z wearing a red shirt' \
		--prompt 'an oil painting of a z'; }; \
	draw "$(OUT)/runs" "$(OUT)/pictures" && draw package://adaface.miniature/weights/encoder "$(OUT)/pictures-shipped"
	@echo; echo "somebody in compositions: $(abspath $(OUT))/pictures/grid.png"; \
	echo "by the shipped encoder:   $(abspath $(OUT))/pictures-shipped/grid.png"; \
	echo "the evaluation:           $(abspath $(OUT))/evaluation/report/index.html"; \
	echo "the dataset:              $(abspath $(OUT))/dataset/report/index.html"

demo-photos: venv  ## build a dataset from the photos in FACES into OUT/photos
	@missing=; \
	for path in "$(FACES)" "$(PACK)" "$(PARSER)"; do [ -e "$$path" ] || missing="$$missing $$path"; done; \
	if [ -n "$$missing" ]; then \
		echo "this demo needs photos, an insightface model pack and a face parser; not found:$$missing" >&2; \
		echo "name yours: make demo-photos FACES=folder-with-one-subfolder-per-person PACK=folder-of-onnx-files PARSER=file.onnx" >&2; \
		echo "(PARSER has the outputs skin, cloth, hair; for any other parser copy configs/faces.yaml and edit it)" >&2; \
		exit 1; fi
	$(PY) -m flows.cli build-dataset --config configs/demo.yaml --set 'data.sources.0.path="$(FACES)"' \
		--set 'data.output="$(OUT)/photos"' --set 'perception.pack="$(PACK)"' --set 'perception.parser.file="$(PARSER)"'
	@echo; echo "the report: $(abspath $(OUT))/photos/report/index.html"

# Two at a time: each folder of tests that start Ray has a cluster of its own (tests/conftest.py).
test: venv  ## the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-slow: venv  ## the tests that take minutes
	$(PY) -m pytest -m slow $(ARGS)

lint: venv  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: venv  ## let ruff rewrite what it can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

gpu: venv swap-onnxruntime  ## put onnxruntime-gpu in the place of onnxruntime (NVIDIA)
	@$(PY) -c 'import onnxruntime as o; print("onnxruntime", o.__version__, o.get_available_providers())'

# The two share a folder: both must go before one comes, or files of the wrong one stay behind.
.PHONY: swap-onnxruntime
swap-onnxruntime:
	$(PIP) uninstall --quiet --yes onnxruntime onnxruntime-gpu
	$(PIP) install --quiet -c constraints.txt -e '.[gpu]'
	@touch $(VENV)/.gpu

clean:  ## remove the environment, caches and the demo's output
	rm -rf .venv out/demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
