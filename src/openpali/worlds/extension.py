"""What the worlds add to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

_BUILDERS = "openpali.worlds.builders"

EXTENSION = Extension(
    commands={
        "data build": "openpali.worlds.cli:build",
        "data import": "openpali.worlds.importers.cli:import_",
        "demo": "openpali.worlds.cli:demo",
    },
    datasets={
        "stamps": f"{_BUILDERS}.stamps:DATASET",
        "clipart": f"{_BUILDERS}.clipart:DATASET",
        "easy-vqa": f"{_BUILDERS}.easy_vqa:DATASET",
        "fashion-mnist": f"{_BUILDERS}.fashion_mnist:DATASET",
        "wordnet": f"{_BUILDERS}.wordnet:DATASET",
        "lines": f"{_BUILDERS}.lines:DATASET",
        "printed": f"{_BUILDERS}.printed:DATASET",
        "ood": f"{_BUILDERS}.ood:DATASET",
        "emoji": f"{_BUILDERS}.emoji:DATASET",
        "pages": f"{_BUILDERS}.pages:DATASET",
        "native": f"{_BUILDERS}.native:DATASET",
        "page-texts": f"{_BUILDERS}.page_texts:DATASET",
        "icons": f"{_BUILDERS}.icons:DATASET",
        "nano-vocabulary": f"{_BUILDERS}.vocabularies:NANO",
        "mini-vocabulary": f"{_BUILDERS}.vocabularies:MINI",
    },
    sources={
        "nano": "openpali.worlds.sources:open_world",
        "mini": "openpali.worlds.sources:open_world",
        "easy-vqa": "openpali.worlds.sources:open_easy_vqa",
        "pages": "openpali.worlds.sources:open_rendered",
        "native": "openpali.worlds.sources:open_rendered",
        "icons": "openpali.worlds.sources:open_icons",
    },
    suites={
        "nano": "openpali.worlds.benchmarks:nano_suite",
        "mini": "openpali.worlds.benchmarks:mini_suite",
        "pages": "openpali.worlds.benchmarks.pages:page_suite",
    },
)
