# Each target first installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAGES := 0a_siglip 0a_classifier 0b_ul2 0c_mask_vqvae 1_multimodal 2a_resolution 2b_resolution 2c_resolution 2d_resolution 3_video 3_easyvqa

.PHONY: soak demo test lint nano

demo: .venv/demo.ready
	$(BIN)/openpali data build all
	$(BIN)/openpali demo --out demo/index.html

# Several pytest processes, since workers that had run many hundreds of tests have died when they forked.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
test: .venv/dev.ready
	$(PYTEST) -n 2 --dist loadfile tests/train tests/plan --ignore tests/train/test_kills.py --ignore tests/train/test_memory.py
	$(PYTEST) -n 2 --dist loadfile tests/data tests/synth tests/text tests/tasks tests/model tests/weights tests/reports tests/test_*.py
	$(PYTEST) -n 2 --dist loadfile tests/infer tests/interop tests/eval
	$(PYTEST) tests/train/test_kills.py  # kills processes, so it runs alone

# Kill runs 200 times at random moments and compare each resumed run with an uninterrupted one; watch the memory of
# 1,000 steps. Takes minutes.
soak: .venv/dev.ready
	OPENPALI_KILLS=200 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/train/test_kills.py tests/train/test_memory.py

lint: .venv/dev.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Train the shipped checkpoint from scratch: hours on two cores, as two ranks of one thread each, which is faster than one
# rank of two threads. It can be interrupted; the same command resumes it.
TRAIN := OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --nproc-per-node 2 -m openpali train
nano: .venv/demo.ready
	$(BIN)/pip install -q -e '.[train]'
	$(BIN)/openpali data build all
	set -e; for stage in $(STAGES); do $(TRAIN) recipes/nano/$$stage.toml; done
	$(BIN)/openpali pack recipes/nano/family.toml --out src/openpali/models/nano

.venv/demo.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[video]'
	touch $@

.venv/dev.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'
	touch $@
