"""Score cards record how a score was measured, their diff shows what changed, and reports draw it."""

from __future__ import annotations

import inspect
import io
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from openpali.cli.eval import print_run
from openpali.eval import cards, provenance
from openpali.eval.benchmark import AnswerBenchmark, Embedded, EncoderBenchmark
from openpali.eval.breakdown import intervals_of, slices_of, worst_of
from openpali.eval.cards import FEWEST, Card
from openpali.eval.registry import benchmarks, find_benchmark, suites
from openpali.eval.runner import Run, run
from openpali.eval.scales import is_error
from openpali.eval.suites import Outcome, find_suite, run_suite
from openpali.extensions import extensions
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Pipeline
from openpali.metrics.bootstrap import wilson_interval
from openpali.metrics.scores import Scores, mean
from openpali.model.lora import LoraConfig
from openpali.reports import eval_page, suite_table
from openpali.reports.eval_page import write_report
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.scoring import Answered
from openpali.weights.adapters import Adapter, write_adapter
from openpali.weights.format import add_facts, open_model
from openpali.weights.write import write_model
from openpali_lab.card_diff import read_card, report

ROOT = Path(__file__).parents[2]


def rows_of(kinds: str) -> list[Answered]:
    return [Answered(i, f"k{i}", "p", "t", ("r",), kind) for i, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def pali(bundle: Path) -> Pali:
    return Pali.from_pretrained(bundle)


@pytest.fixture(scope="module")
def vqa(pali: Pali, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run of a real benchmark, and the path of its card."""
    folder = tmp_path_factory.mktemp("vqa")
    done = run(find_benchmark("nano/vqa"), pali, folder, limit=12, predictions=folder / "a.jsonl")
    done.card.write(folder / "a.json")
    return done, folder / "a.json"


def test_a_card_records_everything_needed_to_reproduce_it(vqa: tuple[Run, Path], pali: Pali) -> None:
    card = read_card(vqa[1])
    assert (card["benchmark"], card["n"]) == ("nano/vqa", 12)
    assert card["scores"]["acc"] == mean(vqa[0].scores.per_sample["acc"])
    assert len(card["model"]["hash"]) == len(card["data"]["hash"]) == len(card["scoring"]["code"]) == 64
    assert card["data"]["of"] == 1000
    assert card["prompt"]["task"] == "object_vqa"
    assert card["prompt"]["options"]["kinds"] == ["count", "is", "where", "which"]
    assert card["prompt"]["first"] == vqa[0].rows[0].prompt
    assert card["preprocessing"]["height"] == 72
    assert card["decoding"]["beams"] == 1
    assert {"python", "torch", "openpali"} <= set(card["versions"])
    assert {kind: each["n"] for kind, each in card["slices"].items()} == {
        kind: sum(row.kind == kind for row in vqa[0].rows) for kind in {row.kind for row in vqa[0].rows}
    }
    assert card["predictions"] == "a.jsonl"
    text = vqa[0].card.as_markdown()
    for word in ("nano/vqa", "12 samples", "| **acc** |", card["model"]["hash"][:16], card["prompt"]["first"]):
        assert word in text


def test_a_card_records_what_the_engine_computed_in(pali: Pali, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "precision", property(lambda self: "bf16"))  # as OpenVINO's on some CPUs
    monkeypatch.setattr(pali, "engine", "openvino")
    for name, expected in (("nano/vqa", ("openvino", "bf16")), ("nano/retrieval", ("torch", "fp32"))):
        model = run(find_benchmark(name), pali, Path(), limit=2).card.model
        assert (model["engine"], model["dtype"], model["device"]) == (*expected, "cpu")


class Grey:
    """One grey image with a question."""

    def __init__(self, value: int = 100, key: str = "one", answer: str = "yes") -> None:
        image = np.full((20, 20, 3), value, np.uint8)
        self.example = Example(key, images=[image], question="what?", answers=[answer])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int, /) -> Example:
        return self.example


def test_hashes_change_with_data_weights_and_configuration(pali: Pali, bundle: Path, tmp_path: Path) -> None:
    def data_hash(source: Grey) -> str:
        benchmark = AnswerBenchmark(
            name="grey",
            title="Grey",
            split="all",
            metric="acc",
            open=lambda root: source,
            task="vqa",
            decoding=Decoding(max_tokens=2),
            scorer=lambda rows: Scores({"acc": 1.0}),
        )
        return str(run(benchmark, pali, tmp_path).card.data["hash"])

    hashes = [data_hash(s) for s in (Grey(), Grey(101), Grey(key="two"), Grey(answer="no"), Grey())]
    assert hashes[0] == hashes[4]
    assert len(set(hashes)) == 4

    stored = next(iter(pali._loaded.values()))[0]
    weights = dict(stored.weights())
    for name, change in (("same", 0.0), ("other", 1e-3)):
        changed = {key: value + change for key, value in weights.items()}
        write_model(
            tmp_path / name,
            changed,
            stored.config,
            preprocess=stored.preprocess,
            tokenizer=stored.tokenizer,
        )
    one, other = (provenance.hash_model(Pali.from_pretrained(tmp_path / name)) for name in ("same", "other"))
    assert one == provenance.hash_model(Pali.from_pretrained(tmp_path / "same"))
    assert one != other
    config = tmp_path / "same" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert one != provenance.hash_model(Pali.from_pretrained(tmp_path / "same"))


def test_the_same_samples_have_one_hash_whatever_codec_writes_their_masks() -> None:
    def found(text: str) -> str:
        return provenance.hash_samples([Answered(0, "a", "p", "", [text])], ["pixels"])

    assert found("<loc0010> <mask_token7> <mask_token12>") == found("<loc0010> <mask_token9> <mask_token0>")
    assert found("<loc0010> <mask_token7>") != found("<loc0011> <mask_token7>")
    assert found("<seg007><seg012> car") == found("<seg000><seg120> car") != found("<seg007><seg012> bus")


def test_the_hash_of_an_adapter_is_of_its_base_too(bundle: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(bundle / "pali", base)
    layer = "text.decoder.0.ff.down"
    width = open_model(base).weights()[f"{layer}.weight"].shape
    tensors = {f"{layer}.lora.down": torch.ones(2, width[1]), f"{layer}.lora.up": torch.ones(width[0], 2)}

    def found(alpha: float) -> str:
        write_adapter(tmp_path / "adapter", Adapter(str(base), LoraConfig(2, alpha, [layer]), tensors))
        return provenance.hash_model(Pali.from_pretrained(tmp_path / "adapter"))

    hashes = [found(4.0), found(4.0), found(8.0)]
    add_facts(base, samples=99)
    hashes.append(found(8.0))
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("metric", ["cer", "ece", "invalid/en", "unparsed", "false_alarms"])
def test_of_errors_less_is_better(metric: str) -> None:
    assert is_error(metric)
    assert not is_error("accuracy")


def test_only_means_over_samples_or_slices_have_intervals() -> None:
    rows = rows_of("aaab")
    scores = Scores(
        {"plain": 0.5, "macro": 1 / 3, "rate": 0.9, "alone": 0.5},
        {"plain": [0, 1, 0, 1], "macro": [0, 1, 1, 0], "rate": [0, 1, 1, 0]},
    )
    found = intervals_of(rows, scores)
    assert set(found) == {"plain", "macro"}
    assert found["plain"][0] < 0.5 < found["plain"][1]
    assert found["macro"][0] < 1 / 3 < found["macro"][1]


def test_slices_have_a_count_a_value_and_an_interval() -> None:
    scores = Scores({"acc": 0.5, "acc/a": 0.5, "acc/b": 0.9}, {"acc": [0, 1, 1, 0]})
    found = slices_of(rows_of("aabb"), scores, "acc")
    assert found == {"a": {"n": 2, "value": 0.5, "interval": wilson_interval(1, 2)}}  # b: no mean over its samples
    assert slices_of(rows_of("aabb"), Scores({"cer": 0.1}), "cer") == {}
    assert slices_of(rows_of("aabb"), Scores({"cer": 0.1}, {"cer": [0, 0, 1, 0]}), "cer") == {}  # of all characters


def test_the_worst_samples_come_first_and_perfect_ones_are_left_out() -> None:
    rows = rows_of("aaaa")
    assert worst_of(rows, Scores({}, {"acc": [1, 0.5, 0, 1]}), "acc") == [2, 1]
    assert worst_of(rows, Scores({}, {"cer": [0, 0.5, 2, 0]}), "cer") == [2, 1]
    assert worst_of(rows, Scores({}, {"cider": [120.0, 3.0, 0.0, 1.5]}), "cider", 3) == [2, 3, 1]


def test_a_caption_is_perfect_at_ten_times_cider() -> None:
    assert worst_of(rows_of("aaa"), Scores({}, {"cider": [1000.0, 1.0, 0.0]}), "cider") == [2, 1]


def saved(folder: Path, name: str, texts: list[str], **changed: Any) -> Path:
    """A card of easy-vqa with its predictions file."""
    lines = [{"run": {}}]
    for i, text in enumerate(texts):
        row = Answered(i, f"q{i}", f"Answer in en: {i}? <extra_id_0>", text, ("yes",))
        lines.append({**row.as_json(), "pixels": ""})
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    accuracy = texts.count("yes") / len(texts)
    card = Card("easy-vqa", len(texts), {"acc": accuracy}, "acc", decoding={"beams": 1}, model={"hash": "1"})
    replace(card, predictions=str(folder / f"{name}.jsonl"), **changed).write(folder / f"{name}.json")
    return folder / f"{name}.json"


def diff(*cards: Path) -> str:
    return "\n".join(report(cards))


def test_diff_lists_differing_fields_and_flipped_samples(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", ["yes", "no", "yes", "no"])
    b = saved(tmp_path, "b", ["yes", "yes", "no", "none", "yes"], decoding={"beams": 4})
    text = diff(a, b)
    assert text.startswith("n: 4 -> 5\ndecoding.beams: 1 -> 4\n\n")
    assert "50.0 -> 60.0  +10.0" in text
    assert "4 samples in both: 1 better, 1 worse by acc; 3 answered differently\nworse q2: " in text
    assert "better q1: " in text
    assert "'yes' -> 'no'" in text
    same = diff(a, a)
    assert "in the same way" in same
    assert "0 better, 0 worse" in same


def test_diff_of_own_data_scores_by_the_task_of_the_cards(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"  # does not tell its task
    own.write_text('{"question": "what?", "answers": "yes", "caption": "a cat"}\n')
    a, b, c = (
        saved(tmp_path, name, texts, benchmark=str(own), prompt={"task": task})
        for name, texts, task in (("a", ["yes"], "vqa"), ("b", ["no"], "vqa"), ("c", ["no"], "caption"))
    )
    assert "0 better, 1 worse by exact_match" in diff(a, b)
    with pytest.raises(ValueError):
        diff(a, c)


def test_diff_without_answers_or_of_other_benchmarks(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", ["yes"])
    (tmp_path / "a.jsonl").unlink()
    assert "were not saved" in diff(a, a)
    b = tmp_path / "b.json"
    Card("nano/vqa", 1, {}, "acc").write(b)
    with pytest.raises(ValueError):
        diff(a, b)
    with pytest.raises(FileNotFoundError):
        diff(a, tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"n": 1}')
    with pytest.raises(ValueError):
        diff(a, tmp_path / "c.json")


def test_the_report_is_self_contained(vqa: tuple[Run, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report(vqa[0], page, worst=4, random=3)
    text = page.read_text("utf-8")
    wrong = vqa[0].scores.per_sample["acc"].count(0)
    assert text.count("<figure ") == text.count('src="data:image/') == min(4, wrong) + min(3, 12 - min(4, wrong))
    assert not re.search(r'(src|href)="(?!data:)|@import|url\((?!data:)', text)
    assert vqa[0].rows[0].prompt.replace("<", "&lt;").replace(">", "&gt;") in text
    assert vqa[0].card.model["hash"][:16] in text


def test_few_samples_have_no_score_on_the_terminal(vqa: tuple[Run, Path], capsys) -> None:
    run, metric = vqa[0], vqa[0].card.metric
    for n, shown in ((12, False), (FEWEST, True)):
        print_run(replace(run, card=replace(run.card, n=n)), None, None, FEWEST)
        printed = capsys.readouterr().out
        assert (metric in printed) == shown
        assert str(n) in printed
    print_run(run, None, None)
    assert metric in capsys.readouterr().out


class Scene:
    """An image with one object whose name contains HTML."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int, /) -> Example:
        image = np.full((60, 90, 3), 200, np.uint8)
        mask = np.zeros((60, 90), bool)
        mask[10:40, 20:50] = True
        return Example("<b>&1", images=[image], objects=[Object("<i>dog", Box(10, 20, 40, 50), mask)])


def test_the_report_draws_answer_and_target_side_by_side(
    pali: Pali, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = find_benchmark("nano/detect")
    assert isinstance(benchmark, AnswerBenchmark)
    scenes = replace(benchmark, open=lambda root: Scene(), decoding=Decoding(max_tokens=3))
    drawn: list[tuple[tuple[int, ...], list[Object]]] = []
    draw = eval_page.draw_prediction

    def spy(image: Any, answer: Any) -> Any:
        drawn.append((image.shape, list(answer.objects)))
        return draw(image, answer)

    monkeypatch.setattr(eval_page, "draw_prediction", spy)
    done = run(scenes, pali, tmp_path, limit=1)
    write_report(done, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<b>answer</b>" in text
    assert "<b>target</b>" in text
    assert "<i>dog" not in text
    assert "&lt;i&gt;dog" in text
    (shape, objects), *_ = [each for each in drawn if each[1]]
    factor = shape[0] // 60
    assert shape == (60 * factor, 90 * factor, 3)
    assert factor > 1, "small images are shown enlarged"
    assert np.allclose(
        objects[0].box, np.multiply(factor, (10, 20, 40, 50)), atol=factor
    )  # to a bin of coordinates


def suite_of(pali: Pali, root: Path, out: Path) -> list[Outcome]:
    def embed(pali: Pali, root: Path, limit: int | None, advance: Any) -> Embedded:
        scores = Scores({"r@1": 0.25, "other": 0.5}, {"r@1": [1.0, 0.0, 0.0, 0.0]})
        return Embedded(scores=scores, n=4, of=4, data="")

    def missing(pali: Pali, root: Path, limit: int | None, advance: Any) -> Embedded:
        raise FileNotFoundError("there is no list.txt")

    words = {"title": "T", "split": "test", "metric": "r@1"}
    return list(
        run_suite(
            [
                EncoderBenchmark(
                    name="x/pairs", run=embed, paper={"r@1": 0.9, "other": 0.8}, note="A note", **words
                ),
                EncoderBenchmark(name="gone", run=missing, **words),
                replace(find_benchmark("nano/vqa"), paper_ocr={"acc": 0.7}),
            ],
            pali,
            root,
            out=out,
            limit=4,
            finished=lambda done: suite_table.write_run(done, out),
        )
    )


def test_a_suite_runs_what_it_can_and_keeps_the_papers_numbers_apart(pali: Pali, tmp_path: Path) -> None:
    outcomes = suite_of(pali, tmp_path, tmp_path / "out")
    assert [outcome.problem for outcome in outcomes] == ["", "there is no list.txt", ""]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"x-pairs.{e}" for e in ("json", "md", "html")} | {
        f"nano-vqa.{e}" for e in ("json", "md", "html", "jsonl")
    }
    rows = suite_table.rows_of(outcomes)
    columns = {name: i for i, name in enumerate(suite_table.COLUMNS)}
    ours, paper, ocr = columns["ours"], columns["paper (5B)"], columns["paper, with OCR"]
    assert [(row[ours], row[paper]) for row in rows[:2]] == [("25.0", "90.0"), ("50.0", "80.0")]
    assert [row[ocr] for row in rows] == ["", "", "70.0"]
    assert rows[0][-1] == "test. A note"
    assert "- gone: there is no list.txt" in suite_table.as_markdown(outcomes)
    console = Console(file=io.StringIO(), width=80)
    for some in (outcomes, outcomes[1:2]):
        console.print(suite_table.render(some))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(f"\n {name} " in shown for name in ("x/pairs", "nano/vqa"))
    assert "\nx/pairs: test. A note\n" in shown
    assert "(5B)" in shown
    without = [replace(each, card=each.card and replace(each.card, paper={}, paper_ocr={})) for each in outcomes]
    console.print(suite_table.render(without))
    assert "5B" not in console.file.getvalue().removeprefix(shown)  # type: ignore[attr-defined]
    again = suite_of(pali, tmp_path, tmp_path / "out")  # goes on from the answers that are there
    assert again[2].card is not None
    assert again[2].card.scores == outcomes[2].card.scores  # type: ignore[union-attr]


def test_every_benchmark_defines_its_scores() -> None:
    definitions = {name: cards.definition_of(benchmark) for name, benchmark in benchmarks().items()}
    for name, words in definitions.items():
        assert words, name
        assert words != (partial.__doc__ or "").split("\n")[0].rstrip("."), name
        assert "Lambda" not in words
    assert definitions["chartqa"] == "ChartQA's relaxed accuracy: the mean over kinds of sample"
    assert definitions["nano/retrieval"].startswith("Recall at 1 per language")


def test_the_scoring_hash_covers_all_code_that_computes_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patterns = {"openpali": provenance.SCORERS} | {
        name.partition(":")[0]: each.scorers for name, each in extensions().items()
    }
    folders = {package: Path(cast(str, import_module(package).__file__)).parent for package in patterns}
    scorers = {path for package, some in patterns.items() for each in some for path in folders[package].glob(each)}
    for benchmark in benchmarks().values():
        for name in ("score", "run", "answer"):
            if (function := cast(Any, getattr(benchmark, name, None))) is None:
                continue
            while isinstance(function, partial):
                function = function.func
            assert Path(inspect.getfile(inspect.unwrap(function))) in scorers
    changed = (
        *(folders["openpali_lab.extension"] / "benchmarks" / name for name in ("probes.py", "metrics/vqa.py")),
        folders["openpali"] / "tasks" / "refseg.py",
        folders["openpali_screen.extension"] / "elements" / "evaluate.py",
    )
    assert {*changed} <= scorers
    assert all(any(folders[package].glob(each)) for package, some in patterns.items() for each in some)

    before = provenance.hash_scoring.__wrapped__()
    for path in scorers:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    copies = {package: tmp_path / folder.relative_to(ROOT) for package, folder in folders.items()}
    monkeypatch.setattr(provenance, "resolve_name", lambda name: SimpleNamespace(__file__=copies[name] / "x.py"))
    hashes = {provenance.hash_scoring.__wrapped__()}
    assert hashes == {before}
    for path in changed:
        (tmp_path / path.relative_to(ROOT)).write_text("# changed")
        hashes.add(provenance.hash_scoring.__wrapped__())
    assert len(hashes) == 1 + len(changed)


def test_cards_list_the_installed_packages_that_scores_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "openvino":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(provenance, "version", installed)
    found = provenance.package_versions()
    assert "scipy" in found
    assert "openvino" not in found
    assert "openvino" in provenance.PACKAGES


def test_every_suite_has_its_benchmarks() -> None:
    names = {name: {each.name for each in find_suite(name)} for name in suites()}
    assert {"nano/caption", "easy-vqa", "fashion-mnist"} <= names["nano"]
    assert {"docvqa", "refcoco/val"} <= names["paper"]
    assert not names["nano"] & names["paper"]
    with pytest.raises(ValueError):
        find_suite("all")


RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("file", sorted(RESULTS.glob("[np]a*/*-*.md")), ids=lambda file: file.stem)
def test_committed_cards_say_what_their_json_says(file: Path) -> None:
    card = cards.Card(**json.loads(file.with_suffix(".json").read_text("utf-8")))
    assert file.read_text("utf-8") == card.as_markdown()
