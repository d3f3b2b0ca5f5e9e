"""Names of the files in a model folder and in the folder of a run, and of the parts of a bundle."""

from __future__ import annotations

CONFIG = "config.json"
TOKENIZER = "tokenizer.model"
BUNDLE = "family.json"  # names the parts of a bundle, see `weights.bundle`; called as in version 0.1
CHECKPOINTS = "checkpoints/step-" + 8 * "[0-9]"  # of a run, as a glob pattern: a copy `step-00000010.bak` is none
RECORD, METRICS, LOCK = "recipe.json", "metrics.jsonl", ".lock"  # of a run, see `train.run_folder`
ADAPTER = "adapter_config.json"  # of a LoRA adapter, see `weights.adapters`
OOD = "ood"  # folder of the detector of out-of-distribution images, see `weights.ood`
OOD_FOLDERS = (OOD, "familiarity")  # and its name in model folders of version 0.1
AUXILIARY = "auxiliary"  # part of a model that only its training needs, and that is in no model folder
LANGUAGE = "language"  # folder of the language model of a reader, see `weights.language`

MAIN = "pali"  # the part of a bundle that is asked in text, whatever its kind
MASKS = "mask_vqvae"  # the part of a bundle that is its mask codec
FINDER = "finder"  # the part of a bundle that finds lines of text on pages
READER = "reader"  # and the part that reads them
ELEMENTS = "elements"  # the part of a bundle that finds the elements of screens
ICONS = "icons"  # and the part that names their icons
WORDS = (FINDER, READER)
PAGES = (*WORDS, ELEMENTS, ICONS)
"""The parts that read pages and screens, and take no prompts."""
SIGLIP = "siglip"  # the part of a bundle that compares images and texts
ABOUT = "about"  # no folder: what says what a bundle can do, where a text is no question that it answers
WITHOUT_DECODER = (*PAGES, SIGLIP, ABOUT)
"""The parts that answer without a decoder."""
PAGE_TASKS = {READER: "ocr", ELEMENTS: "detect"}
"""The tasks that those parts answer."""
