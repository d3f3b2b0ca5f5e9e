"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: where to click on a screen for an instruction.

A click is right if it lies in the box of the element, edges included; without an answer it is wrong. The click is
the centre of the first box that is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.scoring import Answered, Score, by_kind, slices
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image
from openpali_lab.benchmarks.scoring import clicks
from openpali_screen.parts import READER

PLATFORMS = ("mobile", "desktop", "web")
IMAGE = "web_3b0ad239-da6b-4f6f-8f12-f674dc90ff33.png"


@dataclass(frozen=True)
class ClickSet:
    """ScreenSpot or its corrected second version: a file for each platform, and a folder of images.

    The format is read as ``pretrain/screenspot_test.py`` of njucckevin/SeeClick reads it.
    """

    name: str
    title: str
    home: str
    files: tuple[str, ...]  # of each platform
    images: str


FIRST = ClickSet(
    "screenspot",
    "ScreenSpot",
    "https://github.com/njucckevin/SeeClick",
    tuple(f"screenspot/screenspot_{platform}.json" for platform in PLATFORMS),
    "screenspot/screenspot_imgs",
)
SECOND = ClickSet(
    "screenspot-v2",
    "ScreenSpot-v2",
    "https://huggingface.co/datasets/OS-Copilot/ScreenSpot-v2",
    tuple(f"screenspot-v2/screenspot_{platform}_v2.json" for platform in PLATFORMS),
    "screenspot-v2/screenspotv2_image",
)

APPLICATIONS = (
    *("android_studio_macos", "autocad_windows", "blender_windows", "davinci_macos", "eviews_windows"),
    *("excel_macos", "fruitloops_windows", "illustrator_windows", "inventor_windows", "linux_common_linux"),
    *("macos_common_macos", "matlab_macos", "origin_windows", "photoshop_windows", "powerpoint_windows"),
    *("premiere_windows", "pycharm_macos", "quartus_windows", "solidworks_windows", "stata_windows"),
    *("unreal_engine_windows", "vivado_windows", "vmware_macos", "vscode_macos", "windows_common_windows"),
    "word_macos",
)
PRO = tuple(f"screenspot-pro/annotations/{application}.json" for application in APPLICATIONS)
PRO_IMAGES = "screenspot-pro/images"
HOME_PRO = "https://huggingface.co/datasets/likaixin/ScreenSpot-Pro"


def open_clicks(data: ClickSet, root: Path) -> Listing:
    """The instructions of the three platforms; boxes are left, top, width, height in pixels."""
    folder = Folder(root, data.title, data.home)
    makers = []
    for platform, file in zip(PLATFORMS, data.files, strict=True):
        for number, entry in enumerate(folder.rows(file)):
            left, top, width, height = entry.numbers("bbox", 4)
            box = Box(top, left, top + height, left + width)
            example = _asked(entry, f"{platform}_{number}", box, platform, entry.text("data_type"))
            makers.append(with_image(example, folder, f"{data.images}/{entry.text('img_filename')}"))
    return listing(makers, folder, f"instructions in {', '.join(data.files)}")


def open_pro(root: Path) -> Listing:
    """The instructions in English about 26 applications and systems, each of a group and a platform.

    Boxes are left, top, right, bottom in pixels.

    The format is read as ``eval_screenspot_pro.py`` of likaixin2000/ScreenSpot-Pro-GUI-Grounding reads it.
    """
    folder = Folder(root, "ScreenSpot-Pro", HOME_PRO)
    makers = []
    for file in PRO:
        for entry in folder.rows(file):
            left, top, right, bottom = entry.numbers("bbox", 4)
            box = Box(top, left, bottom, right)
            place = f"{entry.text('group')}/{entry.text('platform')}"
            example = _asked(entry, entry.text("id"), box, place, entry.text("ui_type"))
            makers.append(with_image(example, folder, f"{PRO_IMAGES}/{entry.text('img_filename')}"))
    return listing(makers, folder, f"instructions in {PRO[0]}, ...")


def _asked(entry: Fields, key: str, box: Box, place: str, what: str) -> Example:
    """An instruction about one element; all that is not text is an icon, as in the owners' scripts."""
    kind = f"{place}-{'text' if what == 'text' else 'icon'}"
    thing = Object(what, box)
    return Example(key, expression=entry.text("instruction"), objects=[thing], referred=[0], question_kind=kind)


def with_halves(score: Score) -> Score:
    """Over all samples; over each kind, as "web-icon"; and over each half of a kind, "web" and "icon"."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        whole = score(rows)
        halves = [[replace(row, kind=row.kind.rsplit("-", 1)[half]) for row in rows] for half in (0, 1)]
        summary = dict(whole.summary)
        for some in (*halves, rows):
            summary |= slices(by_kind(score, some))
        return Scores(summary, whole.per_sample)

    return sliced


def with_platforms(score: Score) -> Score:
    """As :func:`with_halves`, where a place is a group and a platform: also over each of these, as "CAD" and
    "windows"."""

    @wraps(score)
    def sliced(rows: Sequence[Answered]) -> Scores:
        groups, platforms = [], []
        for row in rows:
            place, what = row.kind.rsplit("-", 1)
            group, platform = place.split("/")
            groups.append(replace(row, kind=f"{group}-{what}"))
            platforms.append(replace(row, kind=platform))
        whole = with_halves(score)(groups)
        return Scores({**whole.summary, **slices(by_kind(score, platforms))}, whole.per_sample)

    return sliced


def with_mean(score: Score) -> Score:
    """Beside the score over all samples ``mean_NAME``, the mean over kinds, however many samples each has."""

    @wraps(score)
    def averaged(rows: Sequence[Answered]) -> Scores:
        whole, kinds = score(rows), by_kind(score, rows).values()
        means = {f"mean_{name}": mean([own.summary[name] for own in kinds]) for name in whole.per_sample}
        return Scores(whole.summary | means, whole.per_sample)

    return averaged


def _benchmark(
    name: str,
    title: str,
    split: str,
    layout: tuple[str, ...],
    home: str,
    note: str,
    scorer: Score,
    opened: Callable[[Path], Listing],
) -> AnswerBenchmark:
    return AnswerBenchmark(
        name=name,
        title=title,
        split=split,
        metric="pointing",
        layout=layout,
        home=home,
        note=note,
        open=opened,
        task="detect",
        options={"of": "expression"},
        decoding=Decoding(max_tokens=64),
        scorer=scorer,
        part=READER,
    )


BENCHMARKS = (
    _benchmark(
        FIRST.name,
        FIRST.title,
        "all: mobile, desktop, web",
        (*FIRST.files, f"{FIRST.images}/{IMAGE}, ..."),
        FIRST.home,
        "`mean_pointing` is the average in its owners' table: the mean over text and icons of each platform.",
        with_mean(with_halves(clicks)),
        partial(open_clicks, FIRST),
    ),
    _benchmark(
        SECOND.name,
        SECOND.title,
        "all: mobile, desktop, web",
        (*SECOND.files, f"{SECOND.images}/{IMAGE}, ..."),
        SECOND.home,
        "",
        with_halves(clicks),
        partial(open_clicks, SECOND),
    ),
    _benchmark(
        "screenspot-pro",
        "ScreenSpot-Pro",
        "all, in English, by group and platform",
        (*PRO, f"{PRO_IMAGES}/android_studio_mac/screenshot_2024-11-28_15-16-55.png, ..."),
        HOME_PRO,
        "Slices are the groups `Dev`, `Creative`, `CAD`, `Scientific`, `Office` and `OS`, the platforms, and text "
        "and icons.",
        with_platforms(clicks),
        open_pro,
    ),
)
