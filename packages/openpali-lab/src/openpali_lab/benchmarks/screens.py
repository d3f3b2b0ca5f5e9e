"""Benchmarks of screens, none of which is in the paper: where to click for an instruction.

ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: a click is right if it lies in the box of the element, edges included;
without an answer it is wrong. The click is the centre of the first box that is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps

from openpali.eval.benchmark import Benchmark
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.scoring import Answered, by_kind
from openpali_lab.benchmarks.files import Fields, Folder, Sample, published
from openpali_lab.benchmarks.scoring import clicks
from openpali_screen.parts import READER

PLATFORMS = ("mobile", "desktop", "web")
IMAGE = "web_3b0ad239-da6b-4f6f-8f12-f674dc90ff33.png"


@wraps(clicks)
def clicks_by_place(rows: Sequence[Answered]) -> Scores:
    """Over all samples, each kind ("web-icon"), each place, and text and icons.

    The place "CAD/windows" is a group and a platform.
    """
    whole, by_slice = clicks(rows), dict[str, list[Answered]]()
    for row in rows:
        place, what = row.kind.rsplit("-", 1)
        group, *platform = place.split("/")
        for name in (group, *platform, what, f"{group}-{what}"):
            by_slice.setdefault(name, []).append(row)
    slices = {f"pointing/{name}": clicks(own).summary["pointing"] for name, own in by_slice.items()}
    return Scores(whole.summary | slices, whole.per_sample)


@wraps(clicks)
def clicks_with_mean(rows: Sequence[Answered]) -> Scores:
    """Also ``mean_pointing``, the mean over kinds, however many samples each has."""
    whole = clicks_by_place(rows)
    kinds = [own.summary["pointing"] for own in by_kind(clicks, rows).values()]
    return Scores(whole.summary | {"mean_pointing": mean(kinds)}, whole.per_sample)


pointed = partial(
    published,
    metric="pointing",
    task="detect",
    options={"of": "expression"},
    resolution=None,
    max_tokens=64,
    part=READER,
)


def _asked(entry: Fields, key: str, box: Box, place: str, what: str) -> Example:
    """An instruction about one element; all that is not text is an icon, as in the owners' scripts."""
    kind = f"{place}-{'text' if what == 'text' else 'icon'}"
    thing = Object(what, box)
    return Example(key, expression=entry.text("instruction"), objects=[thing], referred=[0], question_kind=kind)


def _clicks(files: Sequence[str], images: str) -> Callable[[Folder], Iterator[Sample]]:
    """The instructions in the file of each platform; boxes are left, top, width, height in pixels.

    The format is read as ``pretrain/screenspot_test.py`` of njucckevin/SeeClick reads it.
    """

    def read(folder: Folder) -> Iterator[Sample]:
        for platform, file in zip(PLATFORMS, files, strict=True):
            for number, entry in enumerate(folder.rows(file)):
                left, top, width, height = entry.numbers("bbox", 4)
                box = Box(top, left, top + height, left + width)
                example = _asked(entry, f"{platform}_{number}", box, platform, entry.text("data_type"))
                yield folder.with_image(example, f"{images}/{entry.text('img_filename')}")

    return read


FIRST = [f"screenspot/screenspot_{platform}.json" for platform in PLATFORMS]
screenspot = pointed(
    name="screenspot",
    title="ScreenSpot",
    split="all: mobile, desktop, web",
    layout=(*FIRST, f"screenspot/screenspot_imgs/{IMAGE}, ..."),
    home="https://github.com/njucckevin/SeeClick",
    note="`mean_pointing` is the average in its owners' table: the mean over text and icons of each platform.",
    scorer=clicks_with_mean,
)(_clicks(FIRST, "screenspot/screenspot_imgs"))

SECOND = [f"screenspot-v2/screenspot_{platform}_v2.json" for platform in PLATFORMS]
screenspot_v2 = pointed(
    name="screenspot-v2",
    title="ScreenSpot-v2",
    split="all: mobile, desktop, web",
    layout=(*SECOND, f"screenspot-v2/screenspotv2_image/{IMAGE}, ..."),
    home="https://huggingface.co/datasets/OS-Copilot/ScreenSpot-v2",
    scorer=clicks_by_place,
)(_clicks(SECOND, "screenspot-v2/screenspotv2_image"))

APPLICATIONS = (
    *("android_studio_macos", "autocad_windows", "blender_windows", "davinci_macos", "eviews_windows"),
    *("excel_macos", "fruitloops_windows", "illustrator_windows", "inventor_windows", "linux_common_linux"),
    *("macos_common_macos", "matlab_macos", "origin_windows", "photoshop_windows", "powerpoint_windows"),
    *("premiere_windows", "pycharm_macos", "quartus_windows", "solidworks_windows", "stata_windows"),
    *("unreal_engine_windows", "vivado_windows", "vmware_macos", "vscode_macos", "windows_common_windows"),
    "word_macos",
)
PRO = [f"screenspot-pro/annotations/{application}.json" for application in APPLICATIONS]


@pointed(
    name="screenspot-pro",
    title="ScreenSpot-Pro",
    split="all, in English, by group and platform",
    layout=(*PRO, "screenspot-pro/images/android_studio_mac/screenshot_2024-11-28_15-16-55.png, ..."),
    home="https://huggingface.co/datasets/likaixin/ScreenSpot-Pro",
    note="Slices are the groups `Dev`, `Creative`, `CAD`, `Scientific`, `Office` and `OS`, the platforms, and text "
    "and icons.",
    scorer=clicks_by_place,
)
def screenspot_pro(folder: Folder) -> Iterator[Sample]:
    """The instructions in English about 26 applications and systems, each of a group and a platform.

    Boxes are left, top, right, bottom in pixels. The format is read as ``eval_screenspot_pro.py`` of
    likaixin2000/ScreenSpot-Pro-GUI-Grounding reads it.
    """
    for file in PRO:
        for entry in folder.rows(file):
            left, top, right, bottom = entry.numbers("bbox", 4)
            place = f"{entry.text('group')}/{entry.text('platform')}"
            example = _asked(entry, entry.text("id"), Box(top, left, bottom, right), place, entry.text("ui_type"))
            yield folder.with_image(example, f"screenspot-pro/images/{entry.text('img_filename')}")


def suite() -> list[Benchmark]:
    return [screenspot, screenspot_v2, screenspot_pro]
