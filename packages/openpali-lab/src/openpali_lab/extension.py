"""What the laboratory adds to OpenPaLI."""

from __future__ import annotations

from openpali.extensions import Extension

_HERE = "openpali_lab"
_BUILDERS = f"{_HERE}.worlds.builders"

EXTENSION = Extension(
    commands={
        "data build": f"{_HERE}.worlds.cli:build",
        "data refcoco": f"{_HERE}.benchmarks.cli:refcoco",
        "Ask: demo": f"{_HERE}.worlds.cli:demo",
        "Measure: plan": f"{_HERE}.cli.plan:plan",
        "Measure: sizes": f"{_HERE}.cli.sizes:sizes",
        "Measure: study": f"{_HERE}.cli.study:study",
    },
    options={
        "convert --report": f"{_HERE}.parity:report",
        "eval diff": f"{_HERE}.card_diff:report",
        "eval --ocr": f"{_HERE}.benchmarks.ocr:open_ocr",
        "predict --ray": f"{_HERE}.cluster.bulk:answer",
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
        **dict.fromkeys(("nano", "mini"), f"{_HERE}.worlds.sources:open_world"),
        **dict.fromkeys(("pages", "native"), f"{_HERE}.worlds.sources:open_rendered"),
        "easy-vqa": f"{_HERE}.worlds.sources:open_easy_vqa",
        "icons": f"{_HERE}.worlds.sources:open_icons",
    },
    suites={
        "nano": f"{_HERE}.worlds.benchmarks:nano_suite",
        "mini": f"{_HERE}.worlds.benchmarks:mini_suite",
        "pages": f"{_HERE}.worlds.benchmarks.pages:page_suite",
        "paper": f"{_HERE}.benchmarks.paper:suite",
        "screens": f"{_HERE}.benchmarks.screens:suite",
    },
    scorers=("benchmarks/**/*.py", "worlds/benchmarks/*.py"),
)
