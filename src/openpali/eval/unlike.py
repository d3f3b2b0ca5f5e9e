"""Whether a model tells images of its own world from photographs and screenshots."""

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


def strangers(world: str, model: Encoders, data: Path, limit: int | None, advance: Advance) -> Embedded:
    """AUROC of strangeness, held-out images of the world against photographs and screenshots.

    Returns:
        ``auroc``, over all and per kind of stranger; ``false_alarms``, the share of the world's images that are
        taken for strange, and ``noticed``, that of the strangers.
    """
    if not isinstance(model, Pali) or "pali" not in model.parts or model.pipeline().familiarity is None:
        raise ValueError(f"{model.name} does not say which images it knows: run `openpali calibrate` on it")
    folder = data_folder("unlike")
    sources: dict[str, Source] = {kind: heldout(world, kind) for kind in KINDS}
    sources |= {kind: open_source(str(folder / f"{kind}-00000.tar"), {}) for kind in SOURCES}
    counts = {kind: min(limit or EACH, EACH, len(source)) for kind, source in sources.items()}
    pipeline, seen, total = model.pipeline(), Seen(), sum(counts.values())
    assert pipeline.familiarity is not None
    found: dict[str, list[float]] = {}
    for kind, source in sources.items():
        images = [seen.image(source[i].images[0]) for i in range(counts[kind])]
        found[kind] = pipeline.familiarity.strangeness(pipeline.describe(images)).tolist()
        advance(sum(map(len, found.values())), total)
    known, strange = ([each for kind in kinds for each in found[kind]] for kinds in (KINDS, SOURCES))
    scores = {"auroc": auroc(known, strange), **{f"auroc/{kind}": auroc(known, found[kind]) for kind in SOURCES}}
    for name, values in (("false_alarms", known), ("noticed", strange)):
        scores[name] = mean([float(each > 1) for each in values])
    return Embedded(scores=Scores(scores), n=total, of=total, data=seen.hash)


UNLIKE = EncoderBenchmark(
    name="nano/unlike",
    title="Images of the world against photographs and screenshots (nano world)",
    split=f"held out, {len(KINDS) * EACH} pictures, and {len(SOURCES)} kinds of strangers",
    metric="auroc",
    home="`openpali data build unlike` fetches them",
    run=partial(strangers, "nano"),
)
