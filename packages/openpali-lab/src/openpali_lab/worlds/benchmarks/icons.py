"""``real/icons``: names of icons of families that nothing learns from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast

from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.metrics.scores import mean_scores
from openpali_screen.geometry import Box
from openpali_screen.icons.network import IconClassifier, icons_of
from openpali_screen.icons.predict import icon_probabilities
from openpali_screen.parts import ICONS

REAL = Path(__file__).with_name("real_icons.tar")
"""Made once, only for evaluation: ``git show e67194ca^:tests/eval/make_real_icons.py``."""
_TOP = 5


def name_all(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Whether the most probable name of each icon is right, and whether one of the five most probable is."""
    if ICONS not in model.parts:
        raise ValueError(f"the model {model.name} has no part that names icons")
    module, preprocess = model.image_model(ICONS)
    namer = cast(IconClassifier, module)
    source = open_source(str(REAL), {})
    pages = [source[i] for i in range(len(source))]
    of = sum(len(page.objects) for page in pages)
    left, seen = min(of, limit or of), SeenSamples()
    hits: dict[str, list[float]] = {"acc": [], f"top{_TOP}": []}
    for page in pages:
        icons = page.objects[: left - len(hits["acc"])]
        seen.texts(page.key, *(f"{icon.name} {icon.box}" for icon in icons))
        boxes = [Box(*icon.box) for icon in icons]
        best = icon_probabilities(icons_of(namer), seen.image(page.images[0]), boxes).argsort(1)[:, ::-1]
        for icon, top in zip(icons, best[:, :_TOP].tolist(), strict=True):
            names = [namer.labels[i] for i in top]
            hits["acc"].append(float(names[0] == icon.name))
            hits[f"top{_TOP}"].append(float(icon.name in names))
        advance(len(hits["acc"]), left)
    shown = {ICONS: asdict(preprocess)} if preprocess else {}
    return Embedded(scores=mean_scores(hits), n=left, of=of, data=seen.hash, preprocessing=shown)


REAL_ICONS = EncoderBenchmark(
    name="real/icons",
    title="Names of icons of families that nothing learns from",
    split="all, 1,500 icons",
    metric="acc",
    run=name_all,
    parts=(ICONS,),
    note="Names that ten sets of icons or more share; exact synonyms are one name.",
)
