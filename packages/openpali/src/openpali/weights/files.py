"""Names of the files in a model folder and in the folder of a run, and of the parts of a bundle."""

from __future__ import annotations

CONFIG = "config.json"
TOKENIZER = "tokenizer.model"
BUNDLE = "bundle.json"  # names the parts of a bundle, see `weights.bundle`
CHECKPOINTS = "checkpoints/step-" + 8 * "[0-9]"  # of a run, as a glob pattern: a copy `step-00000010.bak` is none
RECORD, METRICS, LOCK = "recipe.json", "metrics.jsonl", ".lock"  # of a run, see `train.run_folder`
ADAPTER = "adapter_config.json"  # of a LoRA adapter, see `weights.adapters`
OOD = "ood"  # folder of the detector of out-of-distribution images, see `weights.ood`
LANGUAGE = "language"  # folder of a language model of characters, for parts that read lines
FITTED = (OOD, LANGUAGE)
"""Folders in a model folder that calibration writes; they go with the model wherever it is copied."""

MAIN = "pali"  # the part of a bundle that is asked in text, whatever its kind
MASKS = "mask_vqvae"  # the part of a bundle that is its mask codec
SIGLIP = "siglip"  # the part of a bundle that compares images and texts
ABOUT = "about"  # no folder: what says what a bundle can do, where a text is no question that it answers
