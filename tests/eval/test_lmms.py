"""lmms-eval's documented interface (0.7), stood in for by the few names that the adapter touches.

The real package wants a hundred others; what it calls, and how, is written down here from its `api/model.py`,
`api/instance.py` and `models/registry_v2.py`.
"""

from __future__ import annotations

import abc
import importlib
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
    monkeypatch.delitem(sys.modules, "openpali.eval.lmms", raising=False)
    yield importlib.import_module("openpali.eval.lmms")
    sys.modules.pop("openpali.eval.lmms", None)


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8))


def visual(doc: dict[str, Any]) -> list[Image.Image]:
    return [] if doc["image"] is None else [picture(doc["image"])]


def requests(**options: Any) -> list[Instance]:
    return [
        Instance((doc["question"], {"max_new_tokens": 5, "temperature": 0, **options}, visual, i, "local", "test"))
        for i, doc in enumerate(DOCS)
    ]


def open_model(adapter: ModuleType, family: Path, **options: Any) -> Any:
    model = adapter.OpenPali(str(family), **options)
    model.task_dict["local"] = {"test": DOCS}
    return model


def test_lmms_eval_finds_the_model_by_the_entry_point(adapter: ModuleType) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, function = project["entry-points"]["lmms_eval.models"]["openpali"].split(":")
    manifest = getattr(importlib.import_module(module), function)()
    module, _, name = manifest.simple_class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert manifest.model_id == "openpali"
    assert issubclass(found, Lmms)
    assert found.is_simple


def test_answers_are_those_of_the_facade_in_the_order_asked(adapter: ModuleType, family: Path) -> None:
    model, pali = open_model(adapter, family, batch_size=2), Pali.from_pretrained(family)
    answers = model.generate_until(requests())
    prompts = ["Answer in en: {} <extra_id_0>".format(DOCS[i]["question"]) for i in (0, 1)]
    prompts += [DOCS[2]["question"], DOCS[3]["question"]]
    for doc, prompt, answer in zip(DOCS, prompts, answers, strict=True):
        decoding = adapter.decoding_of({"max_new_tokens": 5}, 64)
        [expected] = pali.predict([visual(doc)], [prompt], decoding=decoding)
        assert answer == expected.answer.text.strip(), prompt
    assert len(set(answers)) > 2, "all alike: this shows nothing"
    assert sorted(kept[2] for kept in model.cache_hook.kept) == sorted(answers)


def test_generation_options_are_heeded(adapter: ModuleType, family: Path) -> None:
    model = open_model(adapter, family)
    whole = model.generate_until(requests())[0]
    assert len(model.generate_until(requests(max_new_tokens=1))[0]) < len(whole)
    assert model.generate_until(requests(until=[whole[1]]))[0] == whole[0].strip()
    assert adapter.decoding_of({"temperature": 0.7, "top_p": 0.9, "num_beams": 3}, 9).beams == 1
    assert adapter.decoding_of({"temperature": 0, "top_p": 0.9, "num_beams": 3}, 9).beams == 3
    assert adapter.decoding_of({}, 9).max_tokens == 9


def test_log_likelihood_is_that_of_the_greedy_answer(adapter: ModuleType, family: Path) -> None:
    model, pali = open_model(adapter, family), Pali.from_pretrained(family)
    [[prediction]] = [pali.predict([[picture(0)]], ["Answer in en: what is this? <extra_id_0>"])]
    text = "a horse"
    [(other, greedy)] = model.loglikelihood([Instance(("what is this?", text, visual, 0, "local", "test"))])
    assert other < 0
    assert greedy == (prediction.answer.text == text)
    [(same, _)] = model.loglikelihood([Instance(("what is this?", lambda doc: text, visual, 0, "local", "test"))])
    assert same == other
    tokens = len(pali._loaded["pali"][0].tokenizer.encode(text)) + 1
    surprise = pali.log_perplexity([[picture(0)]], "Answer in en: what is this? <extra_id_0>", [text])
    assert other == pytest.approx(-tokens * float(surprise[0, 0]))


def test_dialogues_and_unknown_options_are_refused(adapter: ModuleType, family: Path) -> None:
    with pytest.raises(ValueError, match="not conv_template"):
        adapter.OpenPali(str(family), conv_template="x")
    with pytest.raises(NotImplementedError, match="no dialogues"):
        open_model(adapter, family).generate_until_multi_round([])
