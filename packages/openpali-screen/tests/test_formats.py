"""Markdown of pages, as a parser of CommonMark reads it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from openpali_screen.export import FORMATS
from openpali_screen.geometry import Box, Size
from openpali_screen.text import ReadLine, ReadPage, ReadWord

PARSER = MarkdownIt("commonmark").enable("table")


def line(text: str, row: int, block: int = 0, column: int = 0, height: int = 12) -> ReadLine:
    box = Box(20 * row, 100 * column, 20 * row + height, 100 * column + 80)
    return ReadLine([ReadWord(word, box, 1.0) for word in text.split()], box, block, row)


def parsed(*lines: ReadLine) -> list[tuple[str, str]]:
    """The tag around each text, and the text as a reader of the page sees it."""
    tokens = PARSER.parse(FORMATS["markdown"]().page(ReadPage([*lines], Size(400, 400))))
    opened = [(tokens[i - 1].tag, token) for i, token in enumerate(tokens) if token.type == "inline"]
    return [
        (tag, "".join("\n" if each.type == "softbreak" else each.content for each in token.children or []))
        for tag, token in opened
    ]


def test_headings_paragraphs_lists_and_tables() -> None:
    assert parsed(
        line("Report", 0, block=0, height=24),
        line("Sales", 1, block=1, height=16),
        line("They rose,", 2, block=2),
        line("then fell.", 3, block=2),
        line("• north", 4, block=3),
        line("– south", 5, block=3),
        line("Town", 6, block=4),
        line("Sum", 6, block=4, column=1),
        line("Ulm", 7, block=4),
        line("a|b", 7, block=4, column=1),
    ) == [
        ("h1", "Report"),
        ("h2", "Sales"),
        ("p", "They rose,\nthen fell."),
        ("p", "north"),
        ("p", "south"),
        *[("th", "Town"), ("th", "Sum"), ("td", "Ulm"), ("td", "a|b")],
    ]


def test_a_page_without_text_is_empty() -> None:
    assert FORMATS["markdown"]().page(ReadPage([], Size(9, 9))) == ""


def test_pages_are_apart() -> None:
    markdown = FORMATS["markdown"]()
    pages = [ReadPage([line(text, 0)], Size(9, 9)) for text in ("one", "two")]
    tokens = PARSER.parse("".join(map(markdown.page, pages)))
    assert [token.content for token in tokens if token.type == "inline"] == ["one", "two"]


@given(st.lists(st.text("a1#>+=-*_~`<>[]()!&;|\\ ").map(lambda text: " ".join(text.split())), min_size=1))
def test_no_text_is_taken_for_markup(texts: list[str]) -> None:
    plain = [text for text in texts if text and not re.match(r"\d+[.)]|- \S", text)]
    expected = [("p", "\n".join(plain))] if plain else []
    assert parsed(*(line(text, row) for row, text in enumerate(plain))) == expected
