"""Whether a model tells images of its own world from out-of-distribution (OOD) ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.datasets.base import Advance, Embedded, EncoderBenchmark, Seen
from openpali.eval.features import Encoders
from openpali.eval.nano import heldout
from openpali.home import data_folder
from openpali.infer.pali import Pali
from openpali.metrics.calibration import auroc
from openpali.metrics.scores import Scores, mean
from openpali.synth.builders.unlike import SOURCES

KINDS = ("single", "scene", "word")  # of the world
EACH = 300  # images of each kind


def detection(world: str, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """AUROC of the OOD score, held-out images of the world against photographs and screenshots.

    Returns:
        ``auroc``, over all and per kind of OOD image; ``false_alarms``, the share of the world's images that score
        above 1, and ``detected``, that of the OOD images.
    """
    if not isinstance(model, Pali) or "pali" not in model.parts or model.pipeline().ood is None:
        raise ValueError(f"{model.name} has no OOD detector: run `openpali calibrate` on it")
    folder = data_folder("unlike")
    sources: dict[str, Source] = {kind: heldout(world, kind) for kind in KINDS}
    sources |= {kind: open_source(str(folder / f"{kind}-00000.tar"), {}) for kind in SOURCES}
    counts = {kind: min(limit or EACH, EACH, len(source)) for kind, source in sources.items()}
    pipeline, seen, total = model.pipeline(), Seen(), sum(counts.values())
    assert pipeline.ood is not None
    found: dict[str, list[float]] = {}
    for kind, source in sources.items():
        images = [seen.image(source[i].images[0]) for i in range(counts[kind])]
        found[kind] = pipeline.ood.score(pipeline.describe(images)).tolist()
        advance(sum(map(len, found.values())), total)
    known, ood = ([each for kind in kinds for each in found[kind]] for kinds in (KINDS, SOURCES))
    scores = {"auroc": auroc(known, ood), **{f"auroc/{kind}": auroc(known, found[kind]) for kind in SOURCES}}
    for name, values in (("false_alarms", known), ("detected", ood)):
        scores[name] = mean([float(each > 1) for each in values])
    return Embedded(scores=Scores(scores), n=total, of=total, data=seen.hash)


NANO_OOD = EncoderBenchmark(
    name="nano/ood",
    title="Images of the world against photographs and screenshots (nano world)",
    split=f"held out, {len(KINDS) * EACH} pictures, and {len(SOURCES)} kinds of others",
    metric="auroc",
    home="`openpali data build unlike` fetches them",
    run=partial(detection, "nano"),
)
