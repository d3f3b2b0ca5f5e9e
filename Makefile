# Each target first installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
# uv, if installed, installs five times as fast as pip, but does not read pip's settings: `make UV= test` installs with pip.
# --no-compile: most modules are never imported.
UV ?= $(shell command -v uv)
comma := ,
into = $(if $(UV),$(UV) pip install -q --python $(1)/python,$(1)/pip install -q --no-compile)
INSTALL := $(call into,$(BIN))
unexport PYTHONDONTWRITEBYTECODE  # containers set it; a process that compiles torch anew starts 4 CPU seconds later
STAGES := $(addprefix nano/,0a_siglip 0b_ul2 0c_mask_vqvae 1_multimodal 2_resolution 3_easyvqa 3_video) \
    $(addprefix pages/,find lines read elements icons)

# Parts of the tests, the longest first, for `make -j2`; a part is folders or files, joined by +, without what is in
# another part. Few parts, since each imports torch; more than one, since a process that had run many hundreds of tests, or
# OpenVINO's, has died when it forked. They share a tiny bundle.
TESTS := tests tests/eval+tests/interop+tests/train/test_parallel.py+tests/train/test_benchmarks.py \
    tests/train tests/infer+tests/model+tests/lab/plan tests/serve tests/data
ALONE := packages/openpali/tests packages/openpali-screen/tests
SOAK := tests/train/test_memory.py
CLUSTER := tests/cluster
WHEEL := tests/wheel
APART := $(SOAK) $(CLUSTER) $(WHEEL) tests/benchmarks/test_rapidocr.py  # what has a target of its own

.PHONY: soak soak-serve served test-ocr reading test-ray test-playground demo test lint docs site playground nano speedrun release $(TESTS) $(ALONE)

demo: .venv/demo.ready
	$(BIN)/openpali demo --out demo/index.html

PYTEST := OMP_NUM_THREADS=1 OPENPALI_TESTS_BUNDLE=$(shell mktemp -du) $(BIN)/python -m pytest
test: $(TESTS) $(ALONE)
# Each in an environment without the packages above it.
$(ALONE): packages/%/tests: .venv-%/ready
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest -m "not slow" $@
paths = $(subst +, ,$(1))
$(TESTS): .venv/dev.ready
	$(PYTEST) -m "not slow" $(call paths,$@) \
	    $(addprefix --ignore=,$(filter $(addsuffix /%,$(call paths,$@)),$(call paths,$(filter-out $@,$(TESTS))) $(APART)))

# Kill runs 200 times at random moments and compare each resumed run with an uninterrupted one; watch the memory of
# 1,000 steps; run the single tests that are marked as slow. Takes minutes. Then compare the first losses of each stage
# of `make nano` with those that are stored: hours on a busy machine, with the data sets of `make nano`.
soak: .venv/dev.ready
	OPENPALI_KILLS=200 $(PYTEST) tests/train/test_kills.py $(SOAK)
	$(PYTEST) -m slow tests/lab tests/infer tests/interop tests/onnx tests/train --ignore=$(SOAK)
	$(PYTEST) -m slow tests/stages

# Send 20,000 requests to `openpali serve` from 32 clients, bad ones and disconnects among them, and watch counts and
# memory; break off 500 streams; then send 10,000 requests that are drawn from the API's description. Takes minutes.
soak-serve: .venv/dev.ready
	OPENPALI_SERVE_REQUESTS=20000 OPENPALI_SERVE_DISCONNECTS=500 OPENPALI_SERVE_CASES=10000 $(PYTEST) -s \
	    --timeout 14400 $(addprefix tests/serve/test_,soak.py disconnects.py schema.py)

# Ask nano about every set that a card is of, as `openpali predict` and Python ask, and through the server from 32
# clients: the answers must be those of `openpali eval`. Takes hours; minutes with OPENPALI_SERVED_SAMPLES=100.
served: .venv/dev.ready
	OPENPALI_SERVED_SAMPLES=$${OPENPALI_SERVED_SAMPLES:-all} $(PYTEST) -s --timeout 14400 \
	    tests/serve/test_served_equals_evaluated.py

# Serve and answer in bulk on a Ray cluster of this machine, and kill its processes. Takes minutes.
test-ray: .venv/ray.ready
	$(PYTEST) -s --timeout 1200 $(CLUSTER)

# Read images with RapidOCR itself; other tests have a stand-in for it.
test-ocr: .venv/dev.ready
	$(INSTALL) $(call packages,,ocr)
	$(PYTEST) tests/benchmarks/test_rapidocr.py

# Score what nano reads, finds and points at on real screens and pages and in the drawn world, and let Tesseract and
# RapidOCR read the screens and pages. The cards are written to build/reading. Takes over an hour.
# Needs Tesseract with its languages: benchmarks/reading.py names the packages.
reading: .venv/dev.ready
	$(INSTALL) $(call packages,cpu,ocr) 'rapidocr==3.10.*'  # of the numbers in docs/reading.md
	$(BIN)/python benchmarks/reading.py --check
	set -e; for name in lines ood stamps clipart; do $(BIN)/openpali data build $$name; done
	mkdir -p build/reading
	set -e; for name in $(addprefix real/,screens documents elements points forms icons ood line) \
	    $(addprefix nano/,line caption retrieval ocr vqa detect refseg video); do \
	    $(BIN)/openpali eval $$name --json build/reading/$${name%/*}-$${name#*/}.json; done
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reading.py --limit 0 --json build/reading/reading.json

lint: .venv/dev.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Build the documentation site in build/site; it works without a network and without a server. Where npm is, the site has
# the playground, too, whose graphs take minutes the first time; `make docs` leaves it out.
site: docs
	if command -v npm > /dev/null; then $(MAKE) playground && cp -R build/playground build/site/playground; \
	    else echo "npm is not here: the site has no playground"; fi

docs: .venv-site/ready
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict --quiet

# Write the page that runs without a server in build/playground. npm gets onnxruntime-web.
RUNTIME := build/npm/node_modules/onnxruntime-web
playground: .venv-playground/ready $(RUNTIME)
	.venv-playground/bin/python -m openpali_lab.playground build/playground --runtime $(RUNTIME)

$(RUNTIME):
	npm install --prefix build/npm --no-audit --no-fund --ignore-scripts 'onnxruntime-web@^1.30'

# Compare the answers of the playground with those of Python on held-out images. Takes minutes.
test-playground: .venv/dev.ready playground
	set -e; for name in stamps clipart; do $(BIN)/openpali data build $$name; done
	$(PYTEST) -m slow -s tests/playground

# Build a wheel and an sdist in dist/, check both, and use the wheel in an empty environment. Takes minutes. The version is
# in packages/openpali/src/openpali/__init__.py.
release: .venv/dev.ready
	$(INSTALL) build 'twine>=6.1'
	rm -rf packages/*/build dist
	set -e; for each in packages/*; do $(BIN)/python -m build --outdir dist $$each; done
	$(BIN)/twine check --strict dist/*
	$(PYTEST) $(WHEEL)

# Train the shipped checkpoint from scratch: hours on two cores, as two ranks of one thread each, which is faster than one
# rank of two threads. It can be interrupted; the same command resumes it. Needs Chromium and npm for pages
# and icons, and the programs that docs/data.md lists for native windows.
TRAIN := OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc-per-node 2 -m openpali train
nano: .venv/demo.ready
	$(INSTALL) $(call packages,train,pages)
	set -e; for name in all pages native printed page-texts icons; do $(BIN)/openpali data build $$name; done
	set -e; for stage in $(STAGES); do $(TRAIN) recipes/$$stage.toml; done
	$(BIN)/openpali export recipes/nano/bundle.toml --format openpali --out packages/openpali/src/openpali/models/nano
	set -e; for suite in nano pages; do $(BIN)/openpali calibrate packages/openpali/src/openpali/models/nano --suite $$suite; done

# Train a small model from nothing, score it and serve its page; the same command goes on where it was interrupted.
# SPEEDRUN has options, as in `make speedrun SPEEDRUN='--size pico --seed 1'`.
speedrun: .venv/demo.ready
	$(INSTALL) $(call packages,train$(comma)serve)
	set -e; for name in stamps clipart nano-vocabulary; do $(BIN)/openpali data build $$name; done
	$(BIN)/python -m openpali_lab speedrun $(SPEEDRUN)

# The packages of this repository, with extras: $(call packages,EXTRAS OF openpali,EXTRAS OF openpali-lab)
packages = -e 'packages/openpali$(if $(1),[$(1)])' -e packages/openpali-screen -e 'packages/openpali-lab$(if $(2),[$(2)])'
PROJECTS := $(wildcard packages/*/pyproject.toml)

.venv/demo.ready: $(PROJECTS)
	$(PYTHON) -m venv .venv
	$(INSTALL) $(call packages,video)
	touch $@

.venv/dev.ready: $(PROJECTS)
	$(PYTHON) -m venv .venv
	$(INSTALL) $(call packages,,dev)
	touch $@

# Only the extra docs, without the package: its pages are made from the text of the sources.
.venv-site/ready: packages/openpali-lab/pyproject.toml
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/python -c 'import tomllib; print(*tomllib.load(open("$<", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > .venv-site/needs
	$(call into,.venv-site/bin) -r .venv-site/needs
	touch $@

# Only what writes the page: the developers' extras have torchvision, of another build than a torch for CPUs.
.venv-playground/ready: $(PROJECTS)
	$(PYTHON) -m venv .venv-playground
	$(call into,.venv-playground/bin) $(call packages,onnx$(comma)serve)
	touch $@

.venv-openpali/ready: packages/openpali/pyproject.toml
	$(PYTHON) -m venv .venv-openpali
	$(call into,.venv-openpali/bin) -e 'packages/openpali[test]'
	touch $@

.venv-openpali-screen/ready: packages/openpali/pyproject.toml packages/openpali-screen/pyproject.toml
	$(PYTHON) -m venv .venv-openpali-screen
	$(call into,.venv-openpali-screen/bin) -e packages/openpali -e 'packages/openpali-screen[test]'
	touch $@

.venv/ray.ready: .venv/dev.ready
	$(INSTALL) $(call packages,,dev$(comma)ray)
	touch $@
