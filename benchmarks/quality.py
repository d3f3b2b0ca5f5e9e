"""Scores of nano with int8 weights or as ONNX graphs, beside torch in float32.

    openpali data build all
    python benchmarks/quality.py --json quality.json     # the first 400 samples of each: under 10 minutes
    python benchmarks/quality.py --limit 10000           # all samples
    python benchmarks/quality.py --engine onnx --limit 300
    python benchmarks/quality.py --engine onnx-int8 --limit 1000
    python benchmarks/quality.py --engine torch-int4

Both engines answer all questions of the same sets, by the protocol of `openpali eval`: ours is `--engine` (by
default `openvino-int8`), the peer torch in float32. `onnx` and `onnx-int8` are what `openpali export --format
onnx` writes; `torch-int4` is what `openpali quantize --bits 4` writes. Scores are in percent; CIDEr has its own
scale. The target is a difference of half a point.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from _report import Result, cost, machine, rate, report
from openpali.eval.benchmark import AnswerBenchmark
from openpali.eval.runner import run
from openpali.eval.scales import is_cider, is_error
from openpali.eval.suites import find_suite
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.reports.progress import progress_bar
from openpali.weights.files import MAIN
from openpali.weights.format import open_model
from openpali.weights.quantize import write_int4

ENGINES = ("openvino-int8", "torch-int8", "torch-int4", "openvino", "onnx", "onnx-int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--sets", nargs="+", metavar="BENCHMARK", help="default: all of the suite that have answers"
    )
    parser.add_argument("--engine", default="openvino-int8", choices=ENGINES)
    parser.add_argument("--limit", type=int, default=400, help="only the first N samples of each")
    parser.add_argument("--json", type=Path, dest="file")
    options = parser.parse_args()
    known = [benchmark.name for benchmark in find_suite("nano")]
    if unknown := [name for name in options.sets or () if name not in known]:
        parser.error(f"suite nano has no {', '.join(unknown)}; it has {', '.join(known)}")
    package = "onnxruntime" if options.engine.startswith("onnx") else "openvino"
    facts = machine(package) | {"engine": options.engine, "samples": options.limit}
    results = report(compare(options), facts, options.file)
    scores = [result for result in results if result.unit != "%"]
    worst = max(scores, key=lambda result: abs(result.ours - result.peer))
    print(f"largest difference: {worst.ours - worst.peer:+.2f} points, {worst.name}")


def compare(options: argparse.Namespace) -> Iterator[Result]:
    """The scores of each set."""
    with TemporaryDirectory() as folder:
        models = [_open(options, Path(folder)), Pali.from_pretrained(options.model, "torch")]
        for benchmark in find_suite("nano"):
            answers = isinstance(benchmark, AnswerBenchmark)
            if not (benchmark.name in options.sets if options.sets else answers):
                continue
            if options.engine.startswith("onnx") and "video" in benchmark.name:
                continue
            try:
                with progress_bar() as watch:
                    ours, theirs = (
                        run(benchmark, model, home() / "data", limit=options.limit, watch=watch(benchmark.name))
                        for model in models
                    )
            except FileNotFoundError as error:
                print(f"{benchmark.name} is left out: {error}")
                continue
            if equal := [one.text == other.text for one, other in zip(ours.rows, theirs.rows, strict=True)]:
                yield rate(f"{benchmark.name}: equal answers", 100 * mean(equal), 100, "float32", "%")
            for name, score in ours.card.scores.items():
                yield compared(f"{benchmark.name}: {name}", score, theirs.card.scores[name], name)


def _open(options: argparse.Namespace, folder: Path) -> Pali:
    if options.engine == "torch-int4":
        pali = Pali.from_pretrained(options.model)
        write_int4(open_model(pali.parts[MAIN]), folder / "int4")
        pali.parts[MAIN] = folder / "int4"
        return pali
    if not options.engine.startswith("onnx"):
        return Pali.from_pretrained(options.model, options.engine)
    from _graphs import with_graphs

    return with_graphs(options.model, folder, int8=options.engine == "onnx-int8")


def compared(title: str, ours: float, theirs: float, name: str) -> Result:
    scale = 1 if is_cider(name) else 100
    make, unit = (cost, "points of error") if is_error(name) else (rate, "points")
    return make(title, scale * ours, scale * theirs, "float32", unit)


if __name__ == "__main__":
    main()
