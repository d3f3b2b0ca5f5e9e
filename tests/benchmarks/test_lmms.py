"""The adapter on a stand-in of lmms-eval's interface (0.7) with the few names that it uses.

The real package depends on a hundred others. The stand-in follows its `api/model.py`,
`api/instance.py` and `models/registry_v2.py`.
"""

from __future__ import annotations

import abc
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from openpali.infer.pali import Pali

DOCS = [
    {"image": 0, "question": "what is this?"},
    {"image": 1, "question": "and what is this, so far away?"},
    {"image": 2, "question": "detect: horse"},
    {"image": None, "question": "Answer in de: was? <extra_id_0>"},
]


class CacheHook:
    def __init__(self) -> None:
        self.kept: list[tuple[str, Any, str]] = []

    def add_partial(self, kind: str, request: Any, answer: str) -> None:
        self.kept.append((kind, request, answer))


class Lmms(abc.ABC):
    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}
        self.cache_hook = CacheHook()

    @abc.abstractmethod
    def loglikelihood(self, requests: Any) -> Any: ...

    @abc.abstractmethod
    def generate_until(self, requests: Any) -> Any: ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests: Any) -> Any: ...


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


@dataclass
class Instance:
    args: tuple[Any, ...]


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The adapter's module, on the stand-in."""
    for name, values in {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "openpali_lab.benchmarks.lmms", raising=False)
    yield importlib.import_module("openpali_lab.benchmarks.lmms")
    sys.modules.pop("openpali_lab.benchmarks.lmms", None)


def image_of(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8))


def visual(doc: dict[str, Any]) -> list[Image.Image]:
    return [] if doc["image"] is None else [image_of(doc["image"])]


def requests(**options: Any) -> list[Instance]:
    return [
        Instance((doc["question"], {"max_new_tokens": 5, "temperature": 0, **options}, visual, i, "local", "test"))
        for i, doc in enumerate(DOCS)
    ]


def open_model(adapter: ModuleType, bundle: Path, **options: Any) -> Any:
    model = adapter.OpenPali(str(bundle), **options)
    model.task_dict["local"] = {"test": DOCS}
    return model


def test_lmms_eval_finds_the_model_by_the_entry_point(adapter: ModuleType) -> None:
    project = tomllib.loads(
        (Path(__file__).parents[2] / "packages" / "openpali-lab" / "pyproject.toml").read_text()
    )["project"]
    module, function = project["entry-points"]["lmms_eval.models"]["openpali"].split(":")
    manifest = getattr(importlib.import_module(module), function)()
    module, _, name = manifest.simple_class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert manifest.model_id == "openpali"
    assert issubclass(found, Lmms)
    assert found.is_simple


def test_answers_are_those_of_the_facade_in_the_order_asked(adapter: ModuleType, bundle: Path) -> None:
    model, pali = open_model(adapter, bundle, batch_size=2), Pali.from_pretrained(bundle)
    answers = model.generate_until(requests())
    prompts = ["Answer in en: {} <extra_id_0>".format(DOCS[i]["question"]) for i in (0, 1)]
    prompts += [DOCS[2]["question"], DOCS[3]["question"]]
    for doc, prompt, answer in zip(DOCS, prompts, answers, strict=True):
        decoding = adapter.decoding_of({"max_new_tokens": 5}, 64)
        [expected] = pali.predict([visual(doc)], [prompt], decoding=decoding)
        assert answer == expected.answer.text.strip(), prompt
    assert len(set(answers)) > 2, "all alike: this shows nothing"
    assert sorted(kept[2] for kept in model.cache_hook.kept) == sorted(answers)


def test_generation_options_are_used(adapter: ModuleType, bundle: Path) -> None:
    model = open_model(adapter, bundle)
    whole = model.generate_until(requests())[0]
    assert len(model.generate_until(requests(max_new_tokens=1))[0]) < len(whole)
    stop = whole[1]  # random weights may also begin with it
    assert model.generate_until(requests(until=[stop]))[0] == whole.partition(stop)[0].strip()
    assert adapter.stops_of({"until": ["", "a"]}) == adapter.stops_of({"until": "a"}) == ["a"]
    assert adapter.decoding_of({"temperature": 0.7, "top_p": 0.9, "num_beams": 3}, 9).beams == 1
    assert adapter.decoding_of({"temperature": 0, "top_p": 0.9, "num_beams": 3}, 9).beams == 3
    assert adapter.decoding_of({}, 9).max_tokens == 9


def test_log_likelihood_is_the_loss_of_an_answer(adapter: ModuleType, bundle: Path) -> None:
    model, pali = open_model(adapter, bundle), Pali.from_pretrained(bundle)
    [[prediction]] = [pali.predict([[image_of(0)]], ["Answer in en: what is this? <extra_id_0>"])]
    text = "a horse"
    [(other, greedy)] = model.loglikelihood([Instance(("what is this?", text, visual, 0, "local", "test"))])
    assert greedy == (prediction.answer.text == text)
    [(same, _)] = model.loglikelihood([Instance(("what is this?", lambda doc: text, visual, 0, "local", "test"))])
    assert same == other
    surprise = pali.log_perplexity([[image_of(0)]], "Answer in en: what is this? <extra_id_0>", [text])
    assert other == pytest.approx(float(surprise[0, 0]))
    choices = [prediction.answer.text, "a horse in the grass"]  # the task takes the least
    asked = [Instance(("what is this?", choice, visual, 0, "local", "test")) for choice in choices]
    assert np.argmin([loss for loss, _ in model.loglikelihood(asked)]) == 0


def test_dialogues_and_unknown_options_are_refused(adapter: ModuleType, bundle: Path) -> None:
    with pytest.raises(ValueError):
        adapter.OpenPali(str(bundle), conv_template="x")
    with pytest.raises(NotImplementedError):
        open_model(adapter, bundle).generate_until_multi_round([])


def test_the_real_package_runs_a_local_task(tmp_path: Path) -> None:
    """Where it is installed: `pip install lmms-eval` brings a hundred packages, so no extra of ours names it."""
    pytest.importorskip("lmms_eval")
    pali = Pali.from_pretrained("nano")
    questions = ("how many objects are in the image?", "what is this?", "which is left of the other?")
    docs = []
    for number in range(12):
        image_of(number).resize((96, 96)).save(tmp_path / f"{number}.png")
        question = questions[number % 3]
        shown = Image.open(tmp_path / f"{number}.png")
        [answered] = pali.predict([[shown]], [f"Answer in en: {question} <extra_id_0>"], task=pali.task("vqa"))
        docs.append({"image": f"{number}.png", "question": question, "answer": answered.answer.text})
    assert len({doc["answer"] for doc in docs}) > 1
    for doc in docs[:3]:
        doc["answer"] += " not"
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    command = [sys.executable, "-m", "lmms_eval", "--model", "openpali", "--model_args", "pretrained=nano"]
    command += ["--include_path", str(Path(__file__).with_name("lmms_task")), "--tasks", "openpali_local"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [*command, "--batch_size", "4", "--output_path", "out"],
        cwd=tmp_path,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    [written] = (tmp_path / "out").rglob("*results.json")
    assert json.loads(written.read_text())["results"]["openpali_local"]["acc,none"] == 9 / 12
