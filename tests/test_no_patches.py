"""Nothing in the package replaces what belongs to torch or to another library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "packages"
HOOKS = {"warnings.formatwarning"}  # of Python itself, there to be assigned


def imported_names(tree: ast.AST) -> set[str]:
    """Names that an import statement of another package binds, anywhere in the file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def root(node: ast.expr) -> str | None:
    """``torch`` of ``torch.nn.functional``; None for what does not begin with a name."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """What a statement assigns to or deletes, tuples taken apart."""
    match node:
        case ast.Assign(targets=found) | ast.Delete(targets=found):
            waiting = list(found)
        case ast.AugAssign(target=found) | ast.AnnAssign(target=found) | ast.For(target=found):
            waiting = [found]
        case ast.With(items=items):
            waiting = [item.optional_vars for item in items if item.optional_vars is not None]
        case _:
            return
    while waiting:
        target = waiting.pop()
        if isinstance(target, ast.Tuple | ast.List):
            waiting += target.elts
        else:
            yield target


def patches(source: str) -> list[int]:
    """Lines that set an attribute or an item of an imported name, pass one to a setter, or import ``mock``."""
    tree = ast.parse(source)
    foreign, lines = imported_names(tree), []
    for node in ast.walk(tree):
        for target in targets(node):
            inside = isinstance(target, ast.Attribute | ast.Subscript)
            if inside and root(target) in foreign and ast.unparse(target) not in HOOKS:
                lines.append(node.lineno)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            setter = name in ("setattr", "delattr", "__setattr__") or "patch" in name or "replaced" in name
            if setter and any(root(argument) in foreign for argument in node.args):
                lines.append(node.lineno)
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if any("mock" in module.split(".") for module in modules):
                lines.append(node.lineno)
    return sorted(set(lines))


@pytest.mark.parametrize(
    "path", sorted(SOURCES.glob("*/src/**/*.py")), ids=lambda path: str(path.relative_to(SOURCES))
)
def test_no_library_is_patched(path: Path) -> None:
    lines = patches(path.read_text())
    assert not lines, f"{path.relative_to(SOURCES)} patches a library in lines {lines}: take a public hook instead"


def test_every_way_to_patch_is_found() -> None:
    ways = [
        "F.scaled_dot_product_attention = quick",
        "setattr(F, 'layer_norm', norm)",
        "with replaced(F, 'layer_norm', norm): pass",
        "stack.enter_context(replaced(torch.UntypedStorage, 'resize_', resize))",
        "torch.nn.functional.softmax, x = 1, 2",
        "del torch.compile",
        "monkeypatch.setattr(torch, 'compile', None)",
        "torch.Tensor.__add__ = add",
        "object.__setattr__(Tensor, 'x', 1)",
        "from unittest import mock",
        "import unittest.mock",
    ]
    imports = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor\n"
    for way in ways:
        assert patches(imports + way), way
    for fine in ("self.x = F.relu(y)", "setattr(self, 'x', torch.zeros(1))", "x = torch.zeros(1); x[0] = 1"):
        assert not patches(imports + fine), fine


@pytest.mark.parametrize("place", ["data/media", "data/sources", "infer/bulk.py", "infer/pipeline.py", "serve"])
def test_no_thread_changes_the_filters_of_warnings(place: str) -> None:
    """They are the process's: two threads that set and restore them at once leave it silent."""
    core = SOURCES / "openpali" / "src" / "openpali"
    found = [core / place] if place.endswith(".py") else (core / place).rglob("*.py")
    assert not [path for path in found if "catch_warnings" in path.read_text("utf-8")]
