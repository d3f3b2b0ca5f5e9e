"""Reading pages: tiles, cells to lines, pieces of lines, characters to words; with models that know the answer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from torch import Tensor, nn

from openpali.architectures.registry import architecture_of
from openpali.model.vit import ViT, ViTConfig
from openpali_screen import page as pages
from openpali_screen.elements.network import elements_of
from openpali_screen.elements.predict import find_elements
from openpali_screen.find.encode import mark_cells
from openpali_screen.find.network import Cells, Finder, finder_of
from openpali_screen.find.predict import TILES, FoundLine, FoundText, _lines, cells_of, find_text
from openpali_screen.geometry import Box, Image, Size
from openpali_screen.icons.network import icons_of
from openpali_screen.icons.predict import name_icons
from openpali_screen.networks import FinderNetwork, ReaderNetwork
from openpali_screen.page import read_page
from openpali_screen.read.ctc import greedy
from openpali_screen.read.network import Reader, ReaderConfig, reader_of
from openpali_screen.read.predict import _pieces, _words, read_lines
from openpali_screen.text import ReadLine, ReadPage, ReadWord
from openpali_screen.views import CELL, MARGIN, PATCH, View, view_of_line
from page_readers import SHAPES

HEIGHT, WIDTH = 700, 900
BOXES = [
    Box(20, 30, 42, 400),
    Box(60, 30, 82, 860),
    Box(90, 30, 106, 200),
    Box(90, 240, 106, 500),
    Box(640, 10, 672, 60),
]


def near(box: Box) -> float:
    """Pixels by which the ends of a line may differ."""
    return CELL + 0.2 * (box.ymax - box.ymin)


def found_from(boxes: list[Box], height: int = HEIGHT, width: int = WIDTH) -> list[FoundLine]:
    """The lines of perfect cells."""
    text, up, down, _ = mark_cells(boxes, [], height, width)
    return sorted(_lines((text == 1).astype(np.float32), up, down), key=lambda line: line.box)


def test_perfect_cells_give_the_lines() -> None:
    for line, box in zip(found_from(BOXES), BOXES, strict=True):
        assert line.box == pytest.approx(box, abs=near(box))
        assert (line.box.ymin, line.box.ymax) == pytest.approx((box.ymin, box.ymax), abs=1e-3)
        assert line.confidence == 1


@settings(deadline=None)
@given(st.floats(8, 60), st.floats(1.0, 2), st.integers(0, 30))
def test_lines_that_touch_stay_apart(size: float, spacing: float, shift: int) -> None:
    boxes = [Box(shift + i * spacing * size, 8, shift + i * spacing * size + size, 300) for i in range(3)]
    assert len(found_from(boxes)) == 3


def test_a_line_reaches_beyond_its_outermost_cells_but_not_beyond_the_page() -> None:
    [line] = found_from([Box(20, 40, 50, 200)])
    assert (line.box.xmin, line.box.xmax) == pytest.approx((34, 206))
    [line] = found_from([Box(20, 0, 50, WIDTH)])
    assert (line.box.xmin, line.box.xmax) == (0, WIDTH)


def test_a_hole_in_a_line_does_not_cut_it() -> None:
    text, up, down, _ = mark_cells([Box(20, 30, 42, 400)], [], 60, 420)
    text[:, 50:53] = 0
    [line] = _lines((text == 1).astype(np.float32), up, down)
    assert line.box.xmax > 390
    text[:, 50:56] = 0
    assert len(_lines((text == 1).astype(np.float32), up, down)) == 2


def test_a_line_begins_and_ends_with_cells_that_are_less_probable() -> None:
    text, up, down, _ = mark_cells([Box(20, 40, 42, 200), Box(20, 280, 42, 400)], [], 60, 420)
    probability = (text == 1).astype(np.float32)
    probability[:, 48:54] = np.where(text.any(1)[:, None], [0.4, 0.4, 0.2, 0.4, 0.4, 0.4], 0)
    first, second = sorted(_lines(probability, up, down), key=lambda line: line.box.xmin)
    reach = 0.2 * 22
    assert (first.box.xmin, first.box.xmax) == pytest.approx((40 - reach, 200 + reach))
    assert second.box.xmin == pytest.approx(280 - reach)
    probability[:, 50:52] = np.where(text.any(1)[:, None], 0.4, 0)
    first, _ = sorted(_lines(probability, up, down), key=lambda line: line.box.xmin)
    assert first.box.xmax == pytest.approx(216 + reach)


class SeeingNothing(nn.Module):
    """In place of a ViT: its tokens are the mean colour, its cells the image itself."""

    config = ViTConfig(16, (16, 16), 8, 1, 8, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.float().mean((1, 2))[:, None, None], images


class KnowingFinder(nn.Module):
    """Finds what is in one channel of the image: the number of a line of ``BOXES`` plus 1."""

    def __init__(self) -> None:
        super().__init__()
        self.vit, self.anywhere = SeeingNothing(), nn.Parameter(torch.zeros(1))

    def run_head(self, tokens: Tensor, images: Tensor) -> Cells:
        self.seen = images.shape
        cells = images[:, CELL // 2 :: CELL, CELL // 2 :: CELL].long()  # the pixel at each centre
        number = cells[..., 0]
        tops = torch.tensor([0.0, *(b.ymin for b in BOXES)])[number]
        bottoms = torch.tensor([0.0, *(b.ymax for b in BOXES)])[number]
        row = cells[..., 1] * 4.0  # the channel of the row in the page, a quarter of it
        middle = (tops + bottoms) / 2
        inside = (number > 0) & ((row + 2 - middle).abs() <= torch.clamp(0.22 * (bottoms - tops), min=2.05))
        return Cells(torch.where(inside, 9.0, -9.0), row + 2 - tops, bottoms - row - 2)


def numbered_page() -> np.ndarray:
    page = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, box in enumerate(BOXES, 1):
        ymin, xmin, ymax, xmax = map(int, box)
        page[ymin:ymax, xmin:xmax, 0] = number
    page[..., 1] = (np.arange(HEIGHT) // 4)[:, None]
    return page


def test_tiles_make_one_page() -> None:
    finder = KnowingFinder()
    found = sorted(find_text(finder_of(cast(Finder, finder)), numbered_page()).lines, key=lambda line: line.box)
    assert [line.box for line in found] == [pytest.approx(box, abs=near(box)) for box in BOXES]
    assert finder.seen[1:] == (256, 256, 3)


@pytest.mark.parametrize("size", [(5, 7), (256, 256), (257, 300)])
def test_any_size_of_page_is_seen(size: tuple[int, int]) -> None:
    assert find_text(finder_of(cast(Finder, KnowingFinder())), np.zeros((*size, 3), np.uint8)).lines == []


def test_a_screen_of_4k_is_seen_a_few_tiles_at_a_time() -> None:
    class Counting(KnowingFinder):
        batches: ClassVar[list[int]] = []

        def run_head(self, tokens: Tensor, images: Tensor) -> Cells:
            self.batches.append(len(images))
            return super().run_head(tokens, images)

    page = np.zeros((2160, 3840, 3), np.uint8)
    page[..., 2] = np.random.default_rng(0).integers(0, 256, (2160, 3840))  # no tile is of one colour
    assert find_text(finder_of(cast(Finder, Counting())), page).lines == []
    assert max(Counting.batches) <= TILES
    assert sum(Counting.batches) > 2160 * 3840 / 256**2


@given(st.floats(0, 90), st.floats(0, 300), st.floats(4, 60), st.floats(1, 2000))
def test_lines_are_seen_as_in_training(top: float, left: float, tall: float, wide: float) -> None:
    box = Box(top, left, top + tall, left + wide)
    *others, last = _pieces(PilImage.new("RGB", (2400, 200)), 0, box, 32, 512)
    if not others:
        assert (last.view, last.columns * 16) == view_of_line(box, 32, 512)
    for piece in (*others, last):
        seen = piece.view.box(box)
        room = MARGIN / (1 + 2 * MARGIN)
        assert (seen.ymin, seen.ymax) == pytest.approx((32 * room, 32 * (1 - room)))


def test_long_lines_are_cut_between_words() -> None:
    image = np.full((40, 2000, 3), 255, np.uint8)
    for start in range(10, 1900, 50):  # words of 30 pixels, spaces of 20
        image[8:30, start : start + 30] = 0
    box = Box(5, 10, 33, 1890)
    pieces = list(_pieces(PilImage.fromarray(image), 3, box, 32, 512))
    assert len(pieces) > 3
    assert all(piece.columns <= 32 and piece.line == 3 for piece in pieces)
    for piece in pieces[1:]:
        assert 0 < (piece.view.left - 40) % 50 < 20  # in a space
    for piece, after in pairwise(pieces):
        assert piece.view.left + piece.shown / piece.view.right == pytest.approx(after.view.left, abs=1.5)
    assert pieces[-1].shown == pieces[-1].columns * 16


class KnowingReader(nn.Module):
    """Reads the red of each column: the number of a character, in single columns."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(ViTConfig(16, (2, 16), 8, 1, 8, 1))
        self.config = ReaderConfig(self.vit.config, tuple(" abc"))

    def forward(self, lines: Tensor, columns: Tensor) -> Tensor:
        numbers = (lines[:, 16, CELL // 2 :: CELL, 0].float() / 40).round().long()
        return torch.nn.functional.one_hot(numbers.clamp(max=4), 5).float() * 50


def test_lines_are_read_into_words_with_boxes() -> None:
    image = np.zeros((64, 400, 3), np.uint8)
    box = Box(4, 16, 30, 236)  # 26 high, 29.6 with its margin: almost the height of the reader
    for column, number in ((40, 2), (60, 3), (100, 1), (140, 4), (160, 4)):
        image[:, column : column + 4, 0] = 40 * number
    [line] = read_lines(reader_of(cast(Reader, KnowingReader())), image, [box])
    assert line.text == "ab cc"
    first, second = line.words
    assert first.box.xmin < 40 < first.box.xmax
    assert first.box.xmax < second.box.xmin < 140 < 164 < second.box.xmax
    assert first.confidence == pytest.approx(1, abs=1e-3)


def test_a_pale_line_that_reaches_the_edge_is_cut_between_its_words() -> None:
    """What is beyond the page is black, of more contrast than the ink."""
    cuts = []
    for width in range(260, 420):
        image = np.full((40, width, 3), 250, np.uint8)
        for start in range(0, width, 50):
            image[12:26, start : start + 44 : 2] = 200  # a word, and 6 pixels before the next
        first, *others = _pieces(PilImage.fromarray(image), 0, Box(10, 0, 28, width), 32, 512)
        if others:
            cuts.append((first.view.left + first.shown / first.view.right) % 50)
    assert 10 < len(cuts) < 160
    assert all(43 <= cut <= 50 for cut in cuts)


def test_no_letter_is_read_twice_where_a_line_is_cut() -> None:
    image = np.full((40, 2000, 3), 40, np.uint8)
    for left in range(16, 1880, 26):
        image[8:30, left : left + 10], image[8:30, left + 10 : left + 20] = 80, 120
    [line] = read_lines(reader_of(cast(Reader, KnowingReader())), image, [Box(5, 16, 33, 1884)])
    assert [word.text for word in line.words] == ["ab"] * 72


def test_a_word_that_a_cut_goes_through_is_one_word() -> None:
    image = np.zeros((40, 2000, 3), np.uint8)
    for left in range(16, 1880, 26):  # letters of 22 pixels, 4 between two
        image[8:30, left : left + 11], image[8:30, left + 11 : left + 22] = 80, 120
    box = Box(5, 16, 33, 1884)
    [line] = read_lines(reader_of(cast(Reader, KnowingReader())), image, [box])
    [word] = line.words
    assert word.text == "ab" * 72
    assert word.box.xmin < 20
    assert word.box.xmax > 1860
    first, *others = _pieces(PilImage.fromarray(image), 0, box, 32, 512)
    assert not first.goes_on
    assert others
    assert all(piece.goes_on for piece in others)


class DoubtingReader(KnowingReader):
    """Says "a" of each column, half surely; of what is light, surely "b"."""

    def forward(self, lines: Tensor, columns: Tensor) -> Tensor:
        steps = lines.shape[2] // CELL
        light = lines[:, :, : int(columns.min()) * PATCH].float().mean((1, 2, 3)) > 128
        odds = torch.tensor([[0.0, 0, 1, 0, 0], [0.0, 0, 0, 50, 0]])
        return odds[light.long()][:, None].expand(-1, steps, -1).clone()


@pytest.mark.parametrize("ground", [0, 120, 255])
def test_lines_that_are_light_on_dark_are_seen_in_negative_too(ground: int) -> None:
    image = np.full((40, 200, 3), ground, np.uint8)
    [line] = read_lines(reader_of(cast(Reader, DoubtingReader())), image, [Box(6, 10, 34, 190)])
    assert line.text == "b"
    averaged = ground < 128
    assert line.confidence < 0.99 if averaged else line.confidence > 0.99


def test_columns_are_read_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [Box(20 * i, left, 20 * i + 14, left + 300) for left in (0, 350) for i in range(4)]
    seen = FoundText([FoundLine(box, 1.0) for box in sorted(columns)], np.zeros(2, np.float32), 0.0)
    monkeypatch.setattr(pages, "find_text", lambda *_: seen)
    monkeypatch.setattr(pages, "read_lines", lambda *given: [ReadLine([ReadWord("a", b, 1)], b) for b in given[2]])
    read = read_page(cast(FinderNetwork, None), cast(ReaderNetwork, None), np.zeros((100, 700, 3), np.uint8))
    assert [(line.box, line.block) for line in read.lines] == [(box, i // 4) for i, box in enumerate(columns)]


def test_boxes_of_what_is_read_end_where_the_page_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found, edge = Box(-3, -2, 14, 104), Box(2, 60, 14, 104)
    asked = []

    def read(reader: Reader, image: np.ndarray, boxes: list[Box], language: None) -> list[ReadLine]:
        asked.extend(boxes)
        return [ReadLine([ReadWord("a", Box(-3, 10, 14, 40), 1), ReadWord("b", edge, 1)], box) for box in boxes]

    monkeypatch.setattr(
        pages, "find_text", lambda *_: FoundText([FoundLine(found, 1.0)], np.zeros(2, np.float32), 0.0)
    )
    monkeypatch.setattr(pages, "read_lines", read)
    [line] = read_page(cast(FinderNetwork, None), cast(ReaderNetwork, None), np.zeros((12, 100, 3), np.uint8)).lines
    assert line.box == Box(0, 0, 12, 100)
    assert [word.box for word in line.words] == [Box(0, 10, 12, 40), Box(2, 60, 12, 100)]
    assert asked == [found]  # with all that is around it


def test_an_empty_page_has_no_text() -> None:
    finder, reader = finder_of(cast(Finder, KnowingFinder())), reader_of(cast(Reader, KnowingReader()))
    assert read_page(finder, reader, np.zeros((9, 9, 3), np.uint8)) == ReadPage([], Size(9, 9))


def test_a_page_is_known_by_all_of_its_tiles() -> None:
    page = np.zeros((256, 700, 3), np.uint8)
    page[:, 400:, 2] = 90  # a channel in which no line is found
    features = find_text(finder_of(cast(Finder, KnowingFinder())), page).features
    assert 0 < features[2] < 90  # the mean over tiles
    assert np.exp(features[5]) > 10  # and how they differ


def test_words_are_as_sure_as_their_characters() -> None:
    scores = np.full((6, 4), 0.01, np.float32)
    for column, (number, probability) in enumerate([(2, 0.5), (2, 0.9), (0, 1.0), (3, 0.8), (1, 1.0), (2, 0.7)]):
        scores[column, number] = probability
    words = list(_words(greedy(scores), CELL, tuple(" ab"), View(0, 0, 1, 1), Box(0, 0, 10, 24)))
    assert [(w.text, round(w.confidence, 3)) for w in words] == [("ab", 0.72), ("a", 0.7)]


def test_the_extent_of_a_line_is_that_of_its_words() -> None:
    words = [ReadWord("a", Box(10, 30, 20, 40), 0.9), ReadWord("b", Box(10, 45, 20, 52), 0.9)]
    assert ReadLine(words, Box(8, 4, 22, 60)).extent == Box(10, 30, 20, 52)


@pytest.mark.parametrize("box", [Box(5, 5, 5, 5), Box(5, 5, 9, 5), Box(9, 9, 5, 5)])
def test_a_box_without_area_is_no_icon(box: Box) -> None:
    icons = architecture_of(SHAPES["icons"]).build(SHAPES["icons"])
    with pytest.raises(ValueError, match="has no area"):
        name_icons(icons_of(icons), np.zeros((20, 20, 3), np.uint8), [Box(0, 0, 9, 9), box])


PASSES = {
    "finder": lambda part, image, box: find_text(finder_of(part), image),
    "reader": lambda part, image, box: read_lines(reader_of(part), image, [box]),
    "elements": lambda part, image, box: find_elements(elements_of(part), image, [box]),
    "icons": lambda part, image, box: name_icons(icons_of(part), image, [box]),
}


@pytest.mark.parametrize("name", PASSES)
def test_images_go_where_the_model_is(name: str) -> None:
    """On the meta device, which takes no tensors of the CPU, and whose own have no values to go on with."""
    with torch.device("meta"):
        part = architecture_of(SHAPES[name]).build(SHAPES[name])
    with pytest.raises(
        (NotImplementedError, RuntimeError),
        match=r"copy out of meta|cannot be called on meta|nonzero|a meta tensor",
    ):
        PASSES[name](part, np.zeros((64, 200, 3), np.uint8), Box(8, 10, 30, 150))


def pooled(tiles: Image) -> np.ndarray:
    """Means of cells."""
    return F.avg_pool2d(torch.from_numpy(tiles).permute(0, 3, 1, 2).float(), CELL).numpy()


def test_tiles_of_one_colour_are_seen_once() -> None:
    rng = np.random.default_rng(0)
    image = np.full((500, 700, 3), 255, np.uint8)
    image[:100, :100] = rng.integers(0, 256, (100, 100, 3))
    asked: list[int] = []

    def say(tiles: Image, counts: Sequence[int]) -> np.ndarray:
        asked.extend(counts)
        return pooled(tiles)

    found = cells_of(say, image, Size(128, 128))
    assert np.array_equal(found, pooled(image[None])[0])
    assert len(asked) < sum(asked) == 5 * 7


def test_a_strip_is_seen_without_a_copy_of_the_height_of_a_tile() -> None:
    image = np.zeros((1, 200_000, 3), np.uint8)
    image[0, 150_000:] = np.arange(50_000, dtype=np.uint8)[:, None]

    def say(tiles: Image, counts: Sequence[int]) -> np.ndarray:
        return pooled(tiles)

    tracemalloc.start()
    found = cells_of(say, image, Size(256, 256))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    columns = F.avg_pool1d(torch.from_numpy(image[0].T.copy()).float()[None], CELL)[0]
    assert np.array_equal(found[:, 0], columns.numpy())
    assert most < 50 * image.nbytes, most
