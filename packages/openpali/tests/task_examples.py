"""An example with everything that tasks ask for, and a codec of masks, for tests of tasks."""

import numpy as np
import pytest

from openpali.tasks.example import Box, Example, Object
from openpali.text.tokenizer import Tokenizer


class FakeMaskCodec:
    """Encodes a mask as a 4x4 image in 128 grey values."""

    def encode(self, mask):
        assert mask.shape == (64, 64)
        assert mask.dtype == np.float32
        return [round(float(v) * 127) for v in mask.reshape(4, 16, 4, 16).mean((1, 3)).ravel()]

    def decode(self, codes):
        grey = np.array(codes, np.float32).reshape(4, 4) / 127 * 2 - 1
        return np.kron(grey, np.ones((16, 16), np.float32))


def ellipse(height: int, width: int, box: Box) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    cy, cx = (box.ymin + box.ymax) / 2, (box.xmin + box.xmax) / 2
    ry, rx = (box.ymax - box.ymin) / 2, (box.xmax - box.xmin) / 2
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


HORSE, DOG, DOG2 = Box(10, 20, 70, 100), Box(120, 200, 190, 290), Box(100, 10, 150, 60)


@pytest.fixture
def example() -> Example:
    """A horse at the top left, dogs at the bottom left and right, in an image of 200 x 300."""
    return Example(
        key="scene-7",
        images=[np.full((200, 300, 3), 255, np.uint8)],
        captions={
            "en": ["A red horse.", "A horse and two dogs."],
            "ja": ["赤い馬です。"],
            "de": ["Ein rotes Pferd."],
        },
        question="what color is the horse?",
        answers=["red", "dark red"],
        question_kind="color",
        objects=[Object("dog", box, ellipse(200, 300, box)) for box in (DOG, DOG2)]
        + [Object("horse", HORSE, ellipse(200, 300, HORSE))],
        expression="the horse on the left",
        referred=[2],
        text="Hi {there}\nétranger",
        label="horse",
        vocabulary=["cat", "cow", "dog", "horse"],
    )


@pytest.fixture
def empty() -> Example:
    return Example(key="empty-1", images=[np.zeros((20, 30, 3), np.uint8)])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["the quick brown fox jumps over the lazy dog"] * 20, 650)


@pytest.fixture
def options(tokenizer: Tokenizer) -> dict[str, dict]:
    """The required options of a family."""
    return {"denoise": {"tokenizer": tokenizer}, "refseg": {"masks": FakeMaskCodec()}}
