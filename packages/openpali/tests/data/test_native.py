"""Images in their own proportions: size, patches and pixels are those of transformers' processor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import Siglip2ImageProcessor
from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

from openpali.data.media.native import NativePreprocess, preprocess_from
from openpali.tasks.example import Size

side = st.one_of(st.integers(1, 40), st.integers(1, 12_000))


@given(side, side, st.sampled_from([4, 12, 14, 16]), st.sampled_from([1, 49, 64, 256, 300, 1024]))
def test_the_size_is_that_of_transformers(height: int, width: int, patch: int, tokens: int) -> None:
    rows, columns = NativePreprocess(patch, tokens).grid(Size(height, width))
    assert (rows * patch, columns * patch) == get_image_size_for_max_num_patches(height, width, patch, tokens)
    assert rows * columns <= tokens


@given(side, side, st.sampled_from([49, 256, 300]))
def test_an_image_that_was_shrunk_stays_as_it_is(height: int, width: int, tokens: int) -> None:
    preprocess = NativePreprocess(16, tokens)
    rows, columns = preprocess.grid(Size(height, width))
    assume(rows * columns * 256 < height * width)  # a tiny one, enlarged 100 times, is far from the budget
    assert preprocess.grid(Size(16 * rows, 16 * columns)) == (rows, columns)


@pytest.mark.parametrize("size", [(96, 96), (30, 200), (300, 20), (5, 7), (4, 900)])
@pytest.mark.parametrize(("resample", "filtered"), [(2, "bilinear-antialias"), (3, "bicubic-antialias")])
def test_patches_are_those_of_transformers(size: tuple[int, int], resample: int, filtered: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    processor = Siglip2ImageProcessor(patch_size=8, max_num_patches=36, resample=resample)
    expected = processor(image, return_tensors="np", input_data_format="channels_last")
    found = NativePreprocess(8, 36, filtered).arrays(image)
    assert found["grids"].tolist() == expected["spatial_shapes"][0].tolist()
    real = int(found["grids"].prod())
    assert expected["pixel_attention_mask"][0].tolist() == [1] * real + [0] * (36 - real)
    values = found["images"][:real].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(values, expected["pixel_values"][0][:real], atol=1.01 / 127.5)
    assert not found["images"][real:].any()


def test_what_cannot_be_is_refused_and_a_folder_says_which_kind_it_is() -> None:
    for wrong in ({"patch": 0, "tokens": 16}, {"patch": 4, "tokens": 0}, {"patch": 4, "tokens": 4, "filter": "x"}):
        with pytest.raises(ValueError):
            NativePreprocess(**wrong)
    assert preprocess_from({"patch": 4, "tokens": 9, "filter": "bilinear"}) == NativePreprocess(4, 9, "bilinear")
