"""Masks as polygons, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import binary_fill_holes

from openpali.metrics.masks import overlap
from openpali.tasks.example import Size
from openpali.tasks.polygons import Polygons, outlines


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_outlines_draw_the_mask_without_its_holes(mask) -> None:
    """Pixels that touch at a corner are apart, so a hole that touches the outside there is none."""
    drawn = Polygons(outlines(mask)).draw(Size(*mask.shape))
    assert np.array_equal(drawn, binary_fill_holes(mask, np.ones((3, 3))))


def test_outlines_have_few_corners_and_the_largest_is_first() -> None:
    mask = np.zeros((40, 60), bool)
    mask[30:35, 2:4] = True
    mask[5:25, 10:50] = True
    large, small = outlines(mask)
    assert sorted(map(tuple, large.tolist())) == [(10, 5), (10, 25), (50, 5), (50, 25)]
    assert sorted(map(tuple, small.tolist())) == [(2, 30), (2, 35), (4, 30), (4, 35)]


@pytest.mark.parametrize(("tolerance", "corners", "iou"), [(1.0, 50, 0.98), (2.0, 20, 0.95)])
def test_a_tolerance_saves_corners(tolerance: float, corners: int, iou: float) -> None:
    y, x = np.mgrid[:100, :140]
    mask = ((y - 50) / 40) ** 2 + ((x - 70) / 60) ** 2 <= 1
    [ring] = outlines(mask, tolerance)
    assert len(ring) <= corners < len(outlines(mask)[0]) / 3
    intersection, union = overlap(Polygons([ring]).draw(Size(100, 140)), mask)
    assert intersection / union >= iou


def test_an_edge_of_a_thousand_teeth_is_simplified() -> None:
    mask = np.ones((8, 3000), bool)
    mask[:4, 1::2] = False
    [ring] = outlines(mask, 2.0)
    assert len(ring) > 2000
