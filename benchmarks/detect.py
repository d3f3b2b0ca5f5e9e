"""Detection by the patches of an image encoder (`openpali predict --fast`) beside a decoder.

    openpali data build all
    python benchmarks/detect.py --json detect.json
    python benchmarks/detect.py --limit 2     # a quick check that it works

Encoder and decoder are those of the nano that ships, unless `--model` and `--decoder` name others. Both find all
instances of one name in each image: of the development set of `nano/detect`, and of crowded scenes of the same
world. Times are of one image at a time, with one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from _report import Result, cost, machine, rate, report
from openpali.data.sources.registry import open_source
from openpali.eval.registry import find_benchmark
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.infer.pipeline import frames_of
from openpali.metrics.boxes import Detection, average_precision, detection_f1, right_boxes
from openpali.metrics.calibration import expected_calibration_error
from openpali.rng import generator
from openpali.tasks.detect import Detect
from openpali.tasks.example import Example, Object
from openpali.weights.files import MAIN, SIGLIP

CROWDS = {  # options of a scene; stamps are about as large in pixels as in others
    "10 to 20 things": {"min_objects": 10, "max_objects": 20, "canvas": 288, "smallest": 0.11, "largest": 0.2},
    "20 to 40 things": {"min_objects": 20, "max_objects": 40, "canvas": 432, "smallest": 0.08, "largest": 0.14},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="the model whose image encoder is asked")
    parser.add_argument("--decoder", default="nano", help="the model whose decoder is asked")
    parser.add_argument("--limit", type=int, default=200, help="images of each set")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = [Pali.from_pretrained(name, "torch") for name in (options.model, options.decoder)]
    facts = machine() | {"images": options.limit, "model": options.model, "decoder": options.decoder}
    report(compare(*models, options.limit), facts, options.file)


def compare(pali: Pali, peer: Pali, limit: int) -> Iterator[Result]:
    """Scores and times of each set."""
    sets = {"nano/detect": find_benchmark("nano/detect@dev").open(home() / "data")}
    for name, options in CROWDS.items():
        sets[name] = open_source("nano/scene", {"split": "heldout", "seed": 7, **options})
    task = pali.task("detect")
    assert isinstance(task, Detect)
    ways = {
        "patches": lambda example, prompt: pali.predict([frames_of(example)], [prompt], task=task, part=SIGLIP),
        "decoder": lambda example, prompt: peer.predict([frames_of(example)], [prompt], part=MAIN),
    }
    for name, source in sets.items():
        prompt, _ = ask(task, source[0], 0)
        for answer in ways.values():  # loads models and embeds names
            answer(source[0], prompt)
        true: list[list[Detection]] = []
        found: dict[str, list[list[Detection]]] = {way: [] for way in ways}
        seconds = dict.fromkeys(ways, 0.0)
        for index in range(min(limit, len(source))):
            example = source[index]
            prompt, own = ask(task, example, index)
            true.append(scored(own))
            for way, answer in list(ways.items())[:: 1 if index % 2 else -1]:
                began = time.perf_counter()
                [prediction] = answer(example, prompt)
                seconds[way] += time.perf_counter() - began
                found[way].append(scored(prediction.answer.objects))
        for metric, score in SCORES.items():
            ours, theirs = (100 * score(found[way], true) for way in ways)
            yield rate(f"{name}: {metric}", ours, theirs, "decoder", "points")
        ours, theirs = (100 * calibration_error(found[way], true) for way in ways)
        yield cost(f"{name}: ece", ours, theirs, "decoder", "points of error")
        ours, theirs = (1000 * seconds[way] / len(true) for way in ways)
        yield cost(f"{name}: an image", ours, theirs, "decoder", "ms")


def ask(task: Detect, example: Example, index: int) -> tuple[str, list[Object]]:
    """A prompt for one name of an image, and the objects of that name."""
    names = sorted({task.codec.spelled(thing.name) for thing in example.objects})
    name = str(generator(0, index).choice(names))
    return task.ask(name), task.shown(example, [name])


def scored(objects: Sequence[Object]) -> list[Detection]:
    return [Detection(thing.name, thing.box, thing.confidence or 0.0) for thing in objects]


def calibration_error(found: Sequence[Sequence[Detection]], true: Sequence[Sequence[Detection]]) -> float:
    """Expected calibration error of the confidence in boxes; 0 if none is found."""
    right = [hit for own, others in zip(found, true, strict=True) for hit in right_boxes(own, others)]
    return expected_calibration_error([thing.score for own in found for thing in own], right) if right else 0.0


SCORES: dict[str, Callable[[Sequence[Sequence[Detection]], Sequence[Sequence[Detection]]], float]] = {
    "f1@0.5": lambda found, true: detection_f1(found, true).summary["f1@0.5"],
    "found": lambda found, true: detection_f1(found, true).summary["recall@0.5"],
    "ap": lambda found, true: average_precision(found, true).summary["ap"],
}


if __name__ == "__main__":
    main()
