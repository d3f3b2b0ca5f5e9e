"""Benchmarks of whole screens and pages that no one drew for it, with every word and its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from openpali.data.sources.base import Source
from openpali.data.sources.registry import open_source
from openpali.eval.benchmark import AnswerBenchmark, AnswerPage, Benchmark, EncoderBenchmark, PageBenchmark
from openpali.home import data_folder
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.metrics.boxes import Detection, detection_f1, right_boxes
from openpali.metrics.words import pointing
from openpali.tasks.example import Example, Object
from openpali.tasks.scoring import with_slices
from openpali_lab.benchmarks.scoring import anls
from openpali_lab.worlds.benchmarks.forms import questions
from openpali_lab.worlds.benchmarks.icons import REAL_ICONS
from openpali_lab.worlds.benchmarks.ood import page_detection
from openpali_screen.elements.encode import elements_of
from openpali_screen.evaluate import elements_by, words_of
from openpali_screen.parts import ELEMENTS, FINDER, PAGES, READER, WORDS
from openpali_screen.read.fit_language import fit_reader

_FOLDER = Path(__file__).parent
SCREENS, DOCUMENTS = _FOLDER / "real_screens.tar", _FOLDER / "real_documents.tar"
"""Made once, only for evaluation: ``git show e67194ca^:tests/eval/make_real_pages.py``."""

THEMES, PRINTED = _FOLDER / "real_themes.tar", _FOLDER / "real_printed.tar"
NATIVE = _FOLDER / "real_native.tar"  # those of toolkits that say what elements are where
TERMINALS = _FOLDER / "real_terminals.tar"
"""Made once, from :data:`openpali_lab.worlds.builders.pages.sources.TESTED`, by ``make_test_sets.py`` and
``make_test_windows.py`` of ``tests/eval``, which commit e67194ca removed."""

_SPOKEN = {
    **{role: role for role in ("button", "checkbox", "heading", "link", "slider", "switch", "tab")},
    "columnheader": "column",
    "combobox": "dropdown",
    "radio": "radiobutton",
    "textbox": "field",
}
"""What people call the roles of elements that have names."""
_LONGEST = 40  # characters of a name
_CONTROLS = frozenset(
    ("button", "checkbox", "columnheader", "combobox", "listbox", "progressbar", "radio", "slider", "switch", "tab")
) | {"textbox"}
"""Roles that toolkits tell: they do not tell what is an icon or a heading."""

_words: dict[str, Any] = {"part": READER, "task": "ocr", "parts": WORDS, "answer": words_of}
_elements: dict[str, Any] = {
    "part": ELEMENTS,
    "task": "detect",
    "parts": PAGES,
    "answer": elements_by,
    "right": right_boxes,
}
_elements |= {"metric": "f1@0.5", "score": detection_f1}
_LIGHTS = {"light": "-light$", "dark": "-dark$"}
_SCRIPTS = {"Latin": " (?!ru|uk)", "Cyrillic": " (ru|uk)"}  # LANGUAGE-PAGE-DPI


def open_screens() -> Source:
    """The windows and the dialogs."""
    return open_source(str(_FOLDER / "real_screens*.tar"), {})


def _shard(file: Path) -> Callable[[Path], Source]:
    return lambda root: open_source(str(file), {})


def _dev(root: Path) -> Source:
    """Windows and pages of packages that nothing is learnt from or scored on."""
    return open_source(str(data_folder("pages") / "dev-*.tar"), {})


def _learnt(root: Path) -> list[Source]:
    """Windows and pages of each set that is learnt from: sets count alike, however many pages they have."""
    names = sorted({path.name.rpartition("-")[0] for path in data_folder("pages").glob("*-*.tar")})
    return [open_source(f"pages/{name}", {}) for name in names if not name.startswith("dev-")]


def _texts() -> Iterator[str]:
    """What the packages say that pages are learnt from."""
    for path in sorted(data_folder("page-texts").glob("*.txt")):
        yield from path.read_text("utf-8").splitlines()


def page_suite() -> list[Benchmark]:
    """Words of screens (windows of dashboards, half of them dark, and native dialogs) and of pages of a manual in
    ten languages; elements of the windows, what expressions mean there, and what forms say; icons; and images that
    are none."""
    points: dict[str, Any] = {"part": READER, "parts": PAGES, "answer": points_by, "right": None}
    points |= {"metric": "pointing", "score": pointing}
    windows = partial(
        PageBenchmark,
        split="all, 60 windows",
        open=_shard(SCREENS),
        kinds=_LIGHTS,
        cluster=lambda key: key.partition("-")[0],  # PAGE-WIDTH-THEME
    )
    themes = partial(
        PageBenchmark,
        split="all, 40 windows of 5 packages",
        open=_shard(THEMES),
        kinds=_LIGHTS,
        cluster=lambda key: key.rsplit("-", 2)[0],  # PACKAGE_PAGE-WIDTH-THEME
        test=True,
    )
    native = partial(
        PageBenchmark,
        split="all, 19 windows of as many programs",
        open=_shard(NATIVE),
        kinds={"wxWidgets": " wx", "GTK": " gtk"},  # TOOLKIT_PACKAGE-THEME
        cluster=lambda key: key.rpartition("-")[0],
        test=True,
    )
    return [
        PageBenchmark(
            name="real/screens",
            title="Words of real screens, half of the windows dark (for development)",
            split="all, 60 windows and 14 dialogs",
            open=lambda root: open_screens(),
            kinds={**_LIGHTS, "dialog": "-dialog$"},
            cluster=lambda key: key.partition("-")[0],
            calibration=_dev,
            learnt=_learnt,
            described_by=FINDER,
            fit=lambda pali: fit_reader(pali, _texts()),
            **_words,
        ),
        PageBenchmark(
            name="real/documents",
            title="Words of printed pages, 100 to 150 dpi (for development)",
            split="all, 20 pages",
            open=_shard(DOCUMENTS),
            kinds=_SCRIPTS,
            **_words,
        ),
        windows(
            name="real/elements",
            title="Elements of real screens by role, such as buttons (for development)",
            calibration=lambda root: open_source("pages/dev-themes", {}),
            **_elements,
        ),
        windows(
            name="real/points",
            title="Elements of real screens by name and role: the point lies in the element (for development)",
            **points,
        ),
        themes(
            name="real/themes",
            title="Words of themes by authors that nothing is learnt from, half of them dark",
            **_words,
        ),
        themes(name="real/themes-elements", title="Elements of these themes by role", **_elements),
        themes(
            name="real/themes-points",
            title="Elements of these themes by name and role: the point lies in the element",
            **points,
        ),
        PageBenchmark(
            name="real/printed",
            title="Words of manuals in ten languages, 100 to 150 dpi",
            split="all, 32 pages of 11 packages",
            open=_shard(PRINTED),
            kinds=_SCRIPTS,
            test=True,
            **_words,
        ),
        native(
            name="real/native",
            title="Words of windows of programs that nothing is learnt from",
            split="all, 31 windows of as many programs",
            open=_shard(_FOLDER / "real_native*.tar"),
            kinds={"FLTK": " fltk", "wxWidgets": " wx", "GTK": " gtk"},
            **_words,
        ),
        PageBenchmark(
            name="real/terminals",
            title="Words of terminals in bitmap fonts that nothing is learnt from",
            split="all, 10 windows",
            open=_shard(TERMINALS),
            test=True,
            **_words,
        ),
        native(
            name="real/native-elements",
            title="Elements of these windows by role, without icons, links and headings",
            **{**_elements, "answer": controls_by},
        ),
        native(
            name="real/native-points",
            title="Elements of these windows by name and role: the point lies in the element",
            **points,
        ),
        AnswerBenchmark(
            name="real/forms",
            title="What fields and tables of real screens say",
            split="all, fields and cells of 60 windows",
            metric="anls",
            open=lambda root: questions(open_source(str(SCREENS), {})),
            task="vqa",
            decoding=Decoding(max_tokens=32),
            scorer=with_slices(anls),
        ),
        REAL_ICONS,
        EncoderBenchmark(
            name="real/ood",
            title="Photographs and icons that are told from screens and pages",
            split="all of real/screens and real/documents; photographs and icons of the data set ood",
            metric="detected",
            home="`openpali data build ood` fetches them",
            run=partial(
                page_detection,
                lambda: {"screen": open_screens(), "document": open_source(str(DOCUMENTS), {})},
            ),
        ),
    ]


def controls_by(pali: Pali) -> AnswerPage:
    """The elements of windows of toolkits, named by their roles."""
    ask = elements_by(pali)

    def answer(example: Example) -> tuple[list[Detection], list[Detection]]:
        found, true = ([each for each in some if each.name in _CONTROLS] for some in ask(example))
        return found, true

    return answer


def points_by(pali: Pali) -> AnswerPage:
    """What expressions mean, named by them: the accessible name and the role of elements that are alone in both."""

    def answer(example: Example) -> tuple[list[Detection], list[Detection]]:
        true = list(_expressions(example))
        found = [(each.name, pali.detect(example.images, [each.name])[0][:1]) for each in true]
        return [Detection(name, thing.box) for name, some in found for thing in some], true

    return answer


def _expressions(example: Example) -> Iterator[Detection]:
    known = [thing for thing in elements_of(example) if thing.role in _SPOKEN and _is_said(thing)]
    texts = [f"{thing.name} {_SPOKEN[thing.role]}" for thing in known]
    counts = Counter(map(str.casefold, texts))
    for text, thing in zip(texts, known, strict=True):
        if counts[text.casefold()] == 1:
            yield Detection(text, thing.box)


def _is_said(thing: Object) -> bool:
    """Whether people would say its name: it has one, and it is short."""
    return thing.name != thing.role and len(thing.name) <= _LONGEST and any(map(str.isalnum, thing.name))
