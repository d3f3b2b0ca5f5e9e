"""No package of a test set, or of its author, is among those that are learned from."""

from __future__ import annotations

import re

from openpali.data.sources.registry import open_source
from openpali_lab.worlds.benchmarks import pages
from openpali_lab.worlds.builders.base import datasets
from openpali_lab.worlds.builders.pages.sources import TESTED

LEARNED = sorted({package for dataset in datasets().values() for package in dataset.needed()})


def is_tested(package: str) -> bool:
    """Whether a package, or for Debian a package that it is a part of, is among those of test sets."""
    name = re.sub(r"(?<=.)@.*", "", package.rpartition(":")[2])
    return any(name == each or name.startswith(f"{each}-") for each in TESTED)


def test_packages_of_test_sets_are_not_learned_from() -> None:
    assert len(LEARNED) > 100
    assert not [name for name in LEARNED if is_tested(name)]
    assert is_tested("uikit@3")
    assert is_tested("aptitude-doc-fi")


def test_keys_name_the_packages_of_test_sets() -> None:
    keys = {
        path.name: [example.key.rpartition(" ")[2] for example in open_source(str(path), {})]
        for path in (pages.THEMES, pages.PRINTED, pages.NATIVE, pages.NATIVE.with_name("real_native_fltk.tar"))
    }
    assert len(keys["real_themes.tar"]) == 40
    assert len({key.partition("_")[0] for key in keys["real_themes.tar"]}) == 5
    assert len({key.partition("_")[0] for key in keys["real_printed.tar"]}) == 10
    native = keys["real_native.tar"] + keys["real_native_fltk.tar"]
    for toolkit, count in (("fltk", 12), ("wx", 10), ("gtk", 9)):
        assert sum(key.startswith(toolkit) for key in native) == count
    named = {each.replace(".", "-") for each in TESTED}
    assert {key.partition("_")[2].rpartition("-")[0] for key in native} <= named


def test_only_new_sets_are_for_tests() -> None:
    tests = {each.name for each in pages.page_suite() if each.test}
    assert tests == {
        *("real/themes", "real/themes-elements", "real/themes-points", "real/printed"),
        *("real/native", "real/native-elements", "real/native-points", "real/terminals"),
    }
