"""Whether a model tells images of its own world from out-of-distribution (OOD) ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import SEEDS, Advance, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.eval.splits import EvalSplit
from openpali.home import data_folder
from openpali.infer.pali import Pali
from openpali.infer.pipeline import CONFIDENT
from openpali.metrics.calibration import auroc
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Image
from openpali.weights.files import MAIN
from openpali.weights.ood import OodDetector, read_ood
from openpali_lab.worlds.benchmarks.samples import heldout, told
from openpali_lab.worlds.builders.ood import SETS, shard
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.parts import FINDER

KINDS = ("single", "scene", "word")  # of the world
NO_PAGES = ("photograph", "icon")  # kinds of the data set that are no screens and no pages
EACH = 300  # images of each kind, at most
LIMIT = 1.0  # OOD score beyond which an image is out of distribution


def detection(
    world: str, split: EvalSplit, model: Encoders, data: Path, limit: int | None, advance: Advance
) -> Embedded:
    """AUROC of the OOD score, and shares of images above the limit, in the world and elsewhere.

    Args:
        split: of the data set ``ood``, and of the images of the world.

    Returns:
        ``detected``, the share of OOD images that score above the limit, and ``false_alarms``, that of the world's;
        ``unsure`` and ``world_unsure``, the shares whose answers are shown without confidence; ``auroc``. All are
        over all images, and but the last two per kind of image, too.
    """
    if not isinstance(model, Pali) or MAIN not in model.parts or model.pipeline().ood is None:
        raise ValueError(f"{model.name} has no OOD detector: run `openpali calibrate` on it")
    known = {kind: heldout(world, kind, SEEDS[split]) for kind in KINDS}
    pipeline = model.pipeline()
    return _scored(known, _others(split, SETS[split]), pipeline.ood, pipeline.describe, limit, advance)


def page_detection(
    known: Callable[[], Mapping[str, Source]], model: Encoders, data: Path, limit: int | None, advance: Advance
) -> Embedded:
    """The same for the detector of screens and pages, which ``known`` opens: photographs and icons are none."""
    if not isinstance(model, Pali) or FINDER not in model.parts or read_ood(model.parts[FINDER]) is None:
        raise ValueError(f"{model.name} has no OOD detector of pages: run `openpali calibrate --suite pages` on it")

    def describe(images: Sequence[Image]) -> Tensor:
        return torch.from_numpy(np.stack([reader_of_bundle(model).features(image) for image in images]))

    return _scored(known(), _others("heldout", NO_PAGES), read_ood(model.parts[FINDER]), describe, limit, advance)


def _others(split: EvalSplit, kinds: Iterable[str]) -> dict[str, Source]:
    folder = data_folder("ood")
    return {kind: open_source(str(shard(folder, split, kind)), {}) for kind in kinds}


def _scored(
    known: Mapping[str, Source],
    unknown: Mapping[str, Source],
    detector: OodDetector | None,
    describe: Callable[[Sequence[Image]], Tensor],
    limit: int | None,
    advance: Advance,
) -> Embedded:
    """Scores of a detector by kinds of images that are in distribution, and that are not."""
    assert detector is not None
    sources = {**known, **unknown}
    counts = {kind: min(limit or EACH, EACH, len(source)) for kind, source in sources.items()}
    seen, total = SeenSamples(), sum(counts.values())
    found: dict[str, list[float]] = {}
    for kind, source in sources.items():
        images = [seen.image(source[i].images[0]) for i in range(counts[kind])]
        found[kind] = detector.score(describe(images)).tolist()
        advance(sum(map(len, found.values())), total)
    own, others = ([each for kind in kinds for each in found[kind]] for kinds in (known, unknown))
    shares: dict[str, list[float]] = {}
    for name, kinds in (("detected", [*unknown]), ("false_alarms", [*known])):
        above = {kind: [float(each > LIMIT) for each in found[kind]] for kind in kinds}
        shares[name] = [each for kind in kinds for each in above[kind]]
        shares |= {f"{name}/{kind}": values for kind, values in above.items()}
    shares["unsure"] = [float(each > CONFIDENT) for each in others]
    shares["world_unsure"] = [float(each > CONFIDENT) for each in own]
    scores = {name: mean(values) for name, values in shares.items()}
    scores |= {"auroc": auroc(own, others), **{f"auroc/{kind}": auroc(own, found[kind]) for kind in unknown}}
    return Embedded(scores=Scores(scores, shares), n=total, of=total, data=seen.hash)


def ood_benchmark(world: str, split: EvalSplit) -> EncoderBenchmark:
    """The detection of the images of a split of the data set ``ood``."""
    sets = SETS[split]
    packages = {each.package for sources in sets.values() for each in sources}
    return EncoderBenchmark(
        name=f"{world}/ood",
        title=f"Out-of-distribution images detected ({world} world)",
        split=f"{told(split, len(KINDS) * EACH)} of the world, and {', '.join(sets)} of {len(packages)} packages",
        metric="detected",
        home="`openpali data build ood` fetches them",
        run=partial(detection, world, split),
        seed=SEEDS[split],
    )
