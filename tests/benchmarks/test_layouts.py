"""Every benchmark of the paper and of screens reads its owners' files, runs by command, names what is missing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_layouts import ANSWERING, Expected, colour

from openpali.eval.benchmark import SEED, AnswerBenchmark
from openpali.eval.registry import find_benchmark
from openpali.infer.pali import Pali
from openpali.rng import generator
from openpali_lab.benchmarks import paper, screens

NAMES = list(ANSWERING)

pytestmark = pytest.mark.usefixtures("wordnet")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Expected]]:
    """Each data set in a separate root, so that none can use another's files."""
    roots = {name: tmp_path_factory.mktemp(re.sub(r"\W", "_", name)) for name in NAMES}
    return {name: (root, ANSWERING[name](root)) for name, root in roots.items()}


def benchmark(name: str) -> AnswerBenchmark:
    found = find_benchmark(name)
    assert isinstance(found, AnswerBenchmark)
    return found


def test_every_answering_benchmark_has_a_layout() -> None:
    assert set(NAMES) == {b.name for b in (*paper.suite(), *screens.suite()) if isinstance(b, AnswerBenchmark)}


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_is_written(name: str, written: dict[str, tuple[Path, Expected]], bundle: Path) -> None:
    root, expected = written[name]
    source = benchmark(name).open(root)
    assert len(source) == expected.count
    example = source[0]
    assert example.key == expected.key
    assert (example.question or example.expression) == expected.question
    pali = Pali.from_pretrained(bundle)
    task = benchmark(name).task_for(pali.task(benchmark(name).task))
    sample = task.write(example, generator(SEED, 0))
    assert (example.question_kind or sample.kind) == expected.kind
    if expected.references:
        assert list(sample.references) == expected.references
    assert expected.question in sample.prompt
    if expected.frames:
        greys = [float(image.mean()) for image in example.images]
        assert greys == pytest.approx([5 * i for i in expected.frames], abs=2)
    else:
        (image,) = example.images
        assert np.median(image.reshape(-1, 3), axis=0) == pytest.approx(colour(expected.image), abs=4)
    keys = [source[i].key for i in range(len(source))]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["docvqa", "refcoco/val", "msrvtt-captions"])  # of each kind
def test_runs_by_the_command(
    openpali, name: str, written: dict[str, tuple[Path, Expected]], bundle: Path, tmp_path: Path
) -> None:
    root, expected = written[name]
    card = tmp_path / "card.json"
    arguments = ["eval", name, "--model", bundle, "--data", root, "--limit", 2, "--json", card]
    openpali(*arguments)
    scored = json.loads(card.read_text("utf-8"))
    assert scored["n"] == min(2, expected.count)
    assert benchmark(name).metric in scored["scores"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_reported(name: str, tmp_path: Path) -> None:
    expected = ANSWERING[name](tmp_path)
    absent = tmp_path / (expected.other or expected.file)
    absent.unlink()
    with pytest.raises(FileNotFoundError) as error:
        benchmark(name).open(tmp_path)
    told(str(error.value), str(absent), benchmark(name).home)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_reported(name: str, tmp_path: Path) -> None:
    expected = ANSWERING[name](tmp_path)
    drop_field(tmp_path / expected.file, expected.field)
    with pytest.raises(ValueError, match=rf"'{expected.field}'.*missing") as error:
        benchmark(name).open(tmp_path)[0]
    told(str(error.value), Path(expected.file).name, benchmark(name).home)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_image_is_reported(name: str, tmp_path: Path) -> None:
    ANSWERING[name](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".jpg", ".jpeg", ".png", ".mp4", ".avi"):
            path.unlink()
    source = benchmark(name).open(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        source[0]
    told(str(error.value), str(tmp_path), benchmark(name).home)


def test_the_command_reports_an_empty_root(openpali, bundle: Path, tmp_path: Path) -> None:
    said = openpali("eval", "docvqa", "--model", bundle, "--data", tmp_path, fails=True)
    told(said, str(tmp_path / "docvqa" / "val_v1.0_withQT.json"), "https://rrc.cvc.uab.es")


def told(message: str, *parts: str) -> None:
    """One sentence that holds all parts."""
    assert "\n" not in message
    assert len(message) < 700
    home = re.findall(r"https?://[\w.]+", parts[-1])[0]
    for part in (*parts[:-1], home):
        assert part in message, (part, message)


def drop_field(path: Path, field: str) -> None:
    """Write the file anew without a field, wherever it is."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k != field}
        return [without(v) for v in value] if isinstance(value, list) else value

    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        place = header.index(field)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([r[:place] + r[place + 1 :] for r in (header, *rows)])
    elif path.suffix == ".jsonl":
        lines = path.read_text("utf-8").splitlines()
        changed = [json.dumps(without(json.loads(line)), ensure_ascii=False) for line in lines]
        path.write_text("\n".join(changed), "utf-8")
    else:
        path.write_text(json.dumps(without(json.loads(path.read_text("utf-8")))), "utf-8")
