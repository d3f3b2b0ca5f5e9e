"""Benchmarks of screens, none of which is in the paper: where to click for an instruction.

ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: a click is right if it lies in the box of the element, edges included;
without an answer it is wrong. The click is the centre of the first box that is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial, wraps

from openpali.eval.benchmark import Benchmark
from openpali.metrics.scores import Scores, mean
from openpali.tasks.example import Box, Example, Object
from openpali.tasks.scoring import Answered, by_kind
from openpali_lab.benchmarks.files import Fields, Folder, Sample, published
from openpali_lab.benchmarks.scoring import clicks
from openpali_screen.parts import READER

PLATFORMS = ("mobile", "desktop", "web")


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


pointed = partial(published, options={"of": "expression"}, part=READER)


def _asked(entry: Fields, key: str, box: Box, place: str, what: str) -> Example:
    """An instruction about one element; all that is not text is an icon, as in the owners' scripts."""
    kind = f"{place}-{'text' if what == 'text' else 'icon'}"
    thing = Object(what, box)
    return Example(key, expression=entry.text("instruction"), objects=[thing], referred=[0], question_kind=kind)


def _clicks(folder: Folder, images: str) -> Iterator[Sample]:
    """The instructions in the file of each platform; boxes are left, top, width, height in pixels.

    The format is read as ``pretrain/screenspot_test.py`` of njucckevin/SeeClick reads it.
    """
    for platform, file in zip(PLATFORMS, folder.layout, strict=False):
        for number, entry in enumerate(folder.rows(file)):
            left, top, width, height = entry.numbers("bbox", 4)
            box = Box(top, left, top + height, left + width)
            example = _asked(entry, f"{platform}_{number}", box, platform, entry.text("data_type"))
            yield folder.with_image(example, f"{images}/{entry.text('img_filename')}")


screenspot = pointed("screenspot", scorer=clicks_with_mean)(partial(_clicks, images="screenspot/screenspot_imgs"))
screenspot_v2 = pointed("screenspot-v2", scorer=clicks_by_place)(
    partial(_clicks, images="screenspot-v2/screenspotv2_image")
)


@pointed("screenspot-pro", scorer=clicks_by_place)
def screenspot_pro(folder: Folder) -> Iterator[Sample]:
    """The instructions in English about 26 applications and systems, each of a group and a platform.

    Boxes are left, top, right, bottom in pixels. The format is read as ``eval_screenspot_pro.py`` of
    likaixin2000/ScreenSpot-Pro-GUI-Grounding reads it.
    """
    for file in folder.layout[:-1]:
        for entry in folder.rows(file):
            left, top, right, bottom = entry.numbers("bbox", 4)
            place = f"{entry.text('group')}/{entry.text('platform')}"
            example = _asked(entry, entry.text("id"), Box(top, left, bottom, right), place, entry.text("ui_type"))
            yield folder.with_image(example, f"screenspot-pro/images/{entry.text('img_filename')}")


def suite() -> list[Benchmark]:
    return [screenspot, screenspot_v2, screenspot_pro]
