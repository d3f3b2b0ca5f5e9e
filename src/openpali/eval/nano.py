"""The benchmarks of the composed worlds: held-out renderings, words, pairs, expressions and motions.

Every function takes a model, the number of samples and a callback for progress, and returns its scores. The sets
are pure functions of :data:`~openpali.eval.benchmarks.base.SEED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from openpali.data.sources import open_source
from openpali.data.stream import Source
from openpali.data.world.compose import WorldSource
from openpali.eval.benchmark import Result, Row, ask, wrong_rows
from openpali.eval.benchmarks.base import SEED, Advance
from openpali.eval.metrics.boxes import Detection, box_iou, detection_f1
from openpali.eval.metrics.caption import cider
from openpali.eval.metrics.masks import masks
from openpali.eval.metrics.ocr import ocr
from openpali.eval.metrics.scores import mean
from openpali.eval.metrics.vqa import exact_match
from openpali.infer.pali import Pali
from openpali.tasks.example import Object
from openpali.tasks.segmentation import RefSeg, crop_mask, paste_mask


def world_retrieval(world: str) -> Any:
    """Held-out renderings -> captions of the world, recall at 1 per language; any stamp is a candidate."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        source = _heldout(world, "single")
        stamps = source.world.stamps
        owner = {stamp.captions["en"]: i for i, stamp in enumerate(stamps)}
        examples = [source[i] for i in range(n)]
        truth = np.array([owner[example.captions["en"][0]] for example in examples])
        images = pali.embed_image([example.images[0] for example in examples])
        scores: dict[str, float] = {}
        for done, lang in enumerate(source.world.languages):
            having = [i for i, stamp in enumerate(stamps) if lang in stamp.captions]
            texts = pali.embed_text([stamps[i].captions[lang] for i in having])
            best = np.array(having)[(images @ texts.T).argmax(1)]
            asked = np.isin(truth, having)
            scores[f"r@1/{lang}"] = float((best == truth)[asked].mean())
            advance(done + 1, len(source.world.languages))
        return Result({**scores, "r@1/mean": mean(list(scores.values()))})

    return score


def world_caption(world: str) -> Any:
    """One stamp on a new background: its caption to the letter, in each language; CIDEr in English."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        source = _heldout(world, "single")
        languages = source.world.languages
        scores, shown, wrong = {}, [], []
        for done, lang in enumerate(languages):
            task = dataclasses.replace(pali.task("caption"), languages=(lang,))  # type: ignore[call-arg]
            rows = ask(pali, source, task, n, partial(_advance, advance, done * n, n * len(languages)))
            exact = exact_match(_texts(rows), _references(rows))
            scores[f"exact/{lang}"] = exact.summary["exact_match"]
            if lang == "en":
                scores["cider/en"] = cider(_texts(rows), _references(rows)).summary["cider"]
                shown, wrong = rows, wrong_rows(exact.per_sample["exact_match"], 1)
        scores["exact/mean"] = mean([scores[f"exact/{lang}"] for lang in languages])
        return Result(scores, shown, wrong)

    return score


def world_ocr(world: str) -> Any:
    """Words that were never rendered in training."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        rows = ask(pali, _heldout(world, "word"), pali.task("ocr"), n, advance)
        result = ocr(_texts(rows), [row.sample.target for row in rows])
        scores = {"cer": result.summary["cer"], "exact": result.summary["exact_match"]}
        return Result(scores, rows, wrong_rows(result.per_sample["exact_match"], 1))

    return score


def world_vqa(world: str) -> Any:
    """Count, is there, where, which, on scenes with pairs of things that never met in training."""
    kinds = ("count", "is", "where", "which")

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        task = dataclasses.replace(pali.task("object_vqa"), kinds=kinds)  # type: ignore[call-arg]
        rows = ask(pali, _heldout(world, "scene"), task, n, advance)
        hits = exact_match(_texts(rows), _references(rows)).per_sample["exact_match"]
        return Result(_per_kind(rows, hits), rows, wrong_rows(hits, 1))

    return score


def world_detect(world: str) -> Any:
    """All instances of one name: mean IoU of each true box with the nearest answer, and F1 at IoU 0.5."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        task = dataclasses.replace(pali.task("detect"), max_names=1, absent=0.0)  # type: ignore[call-arg]
        rows = ask(pali, _heldout(world, "scene"), task, n, advance)
        truths = [_asked_for(row) for row in rows]
        answers = [row.prediction.answer.objects for row in rows]
        ious = [_mean_iou(a, t) for a, t in zip(answers, truths, strict=True)]
        f1 = detection_f1([_detections(a) for a in answers], [_detections(t) for t in truths])
        return Result({"iou": mean(ious), "f1@0.5": f1.summary["f1@0.5"]}, rows, wrong_rows(ious, 0.5))

    return score


def world_refseg(world: str) -> Any:
    """Referring expressions: IoU of the pasted mask, and the ceiling that the mask VQ-VAE sets."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        source = _heldout(world, "scene", expressions=True)
        task = pali.task("refseg")
        assert isinstance(task, RefSeg)
        codec = task.masks
        if codec is None:
            raise ValueError(f"the model {pali.folder} has no mask VQ-VAE")
        rows = ask(pali, source, task, n, advance)
        truths, found, best = [], [], []
        for row in rows:
            thing = row.example.objects[row.example.referred[0]]
            assert thing.mask is not None
            size = row.example.size
            truths.append(thing.mask)
            answer = row.prediction.answer.objects
            mask = answer[0].mask if answer else None
            found.append(np.zeros(size, bool) if mask is None else mask)
            codes = codec.encode(crop_mask(thing.mask, thing.box))
            best.append(paste_mask(codec.decode(codes), thing.box, size))
        result, ceiling = masks(found, truths), masks(best, truths)
        scores = {k: result.summary[k] for k in ("miou", "oiou", "p@0.5", "p@0.7", "p@0.9")}
        scores["ceiling"] = ceiling.summary["miou"]
        return Result(scores, rows, wrong_rows(result.per_sample["miou"], 0.5))

    return score


def world_video(world: str) -> Any:
    """What moves, and where, over 8 frames; pairs of name and direction that training did not show."""

    def score(pali: Pali, n: int, advance: Advance) -> Result:
        rows = ask(pali, _heldout(world, "video"), pali.task("video_qa"), n, advance)
        hits = exact_match(_texts(rows), _references(rows)).per_sample["exact_match"]
        return Result(_per_kind(rows, hits), rows, wrong_rows(hits, 1))

    return score


def easy_vqa(pali: Pali, n: int, advance: Advance) -> Result:
    """easy-VQA's official test questions."""
    source = open_source("easy-vqa", {"split": "test"})
    part = "easy_vqa" if "easy_vqa" in pali.parts else None
    rows = ask(pali, source, pali.task("vqa"), min(n, len(source)), advance, part=part)
    hits = exact_match(_texts(rows), _references(rows)).per_sample["exact_match"]
    return Result(_per_kind(rows, hits), rows, wrong_rows(hits, 1))


def _advance(advance: Advance, before: int, total: int, done: int, _: int) -> None:
    advance(before + done, total)


def _heldout(world: str, kind: str, **options: Any) -> WorldSource:
    source: Source = open_source(f"{world}/{kind}", {"split": "heldout", "seed": SEED, **options})
    assert isinstance(source, WorldSource)
    return source


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row.prediction.answer.text for row in rows]


def _references(rows: Sequence[Row]) -> list[Sequence[str]]:
    return [row.sample.references for row in rows]


def _per_kind(rows: Sequence[Row], hits: Sequence[float]) -> dict[str, float]:
    kinds = sorted({row.sample.kind for row in rows if row.sample.kind})
    slices = {
        f"acc/{kind}": mean([hit for row, hit in zip(rows, hits, strict=True) if row.sample.kind == kind])
        for kind in kinds
    }
    return {"acc": mean(list(hits)), **slices}


def _asked_for(row: Row) -> list[Object]:
    name = row.sample.prompt.removeprefix("detect: ")
    return [thing for thing in row.example.objects if thing.name == name]


def _detections(objects: Sequence[Object]) -> list[Detection]:
    return [Detection(thing.name, thing.box) for thing in objects]


def _mean_iou(answers: Sequence[Object], truths: Sequence[Object]) -> float:
    if not answers:
        return 0.0
    overlap = box_iou([thing.box for thing in truths], [thing.box for thing in answers])
    return float(overlap.max(axis=1).mean())


WORLD_BENCHMARKS: dict[str, Callable[[str], Any]] = {
    "retrieval": world_retrieval,
    "caption": world_caption,
    "ocr": world_ocr,
    "vqa": world_vqa,
    "detect": world_detect,
    "refseg": world_refseg,
    "video": world_video,
}
