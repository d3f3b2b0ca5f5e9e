"""A new engine is one file and one line: then it answers, is served, and is refused where it cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openpali.architectures.paligemma import PaliGemmaConfig
from openpali.infer.engines.base import Engine
from openpali.infer.engines.registry import ENGINES
from openpali.infer.pali import Pali
from openpali.model.patches import Images
from openpali.model.vision_language import VisionLanguageModel
from openpali.serve.scheduler import Scheduler

calls: list[str] = []


class Toy:
    """Calls the model, and notes what is called."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self.model = model
        self.first, self.precision = model.first, "fp16"

    def encode_images(self, images: Images, frames: Tensor | None = None) -> Any:
        calls.append("encode_images")
        return self.model.encode_images(images, frames)

    def encode_tokens(self, visual_BND: Tensor | None, prompt: Tensor, counts: Tensor | None = None) -> Any:
        return self.model.encode_tokens(visual_BND, prompt, counts)

    def start(self, memory: Any, max_length: int) -> Any:
        return self.model.start(memory, max_length)

    def step(self, ids: Tensor, cache: Any) -> Tensor:
        calls.append("step")
        return self.model.step(ids, cache)


TOY = Engine(Toy, compiles=True, devices=("cpu",), auto=("bf16",))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "toy", f"{__name__}:TOY")
    calls.clear()


def test_it_answers_as_torch_and_is_served(bundle: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    toy, torch_ = Pali.from_pretrained(bundle, "toy"), Pali.from_pretrained(bundle)
    prompt = "Answer in en: what? <extra_id_0>"
    [found], [expected] = (pali.predict([[image]], [prompt]) for pali in (toy, torch_))
    assert found.generation == expected.generation
    assert calls == ["encode_images"] + ["step"] * len(found.generation.log_probs)
    assert (toy.engine, toy.pipeline().precision) == ("toy", "fp16")
    calls.clear()
    scheduler = Scheduler(toy)
    ticket = scheduler.submit([image], prompt)
    while scheduler.turn():
        pass
    assert ticket.predictions()[0].generation == found.generation
    assert calls == ["encode_images"] + ["step"] * len(found.generation.log_probs)


def test_auto_takes_the_first_that_can_run(bundle: Path) -> None:
    assert Pali.from_pretrained(bundle, "auto", dtype="bf16").engine == "toy"


def test_it_is_refused_where_it_cannot_run() -> None:
    cuda = torch.device("cuda")
    assert "computes on a cpu, not on cuda" in TOY.refusal("toy", cuda)
    other = PaliGemmaConfig.__new__(PaliGemmaConfig)
    assert "cannot run a paligemma" in TOY.refusal("toy", torch.device("cpu"), other, "paligemma")
    with pytest.raises(ValueError):
        Pali.from_pretrained("nano", "toys")
