"""Mistakes that pydantic finds, as sentences."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from openpali.mistakes import Terms, mistakes, reason


class Leaf(BaseModel, extra="forbid"):
    kind: Literal["leaf"] = "leaf"
    size: int = Field(1, ge=1, strict=True)


class Branch(BaseModel, extra="forbid"):
    kind: Literal["branch"]
    leaf: str


class Tree(BaseModel, extra="forbid"):
    name: str
    leaf: Leaf = Leaf()
    parts: list[Annotated[Leaf | Branch, Field(discriminator="kind")]] = []
    label: str | list[Leaf] = ""
    rows: dict[str, dict[str, Leaf]] = {}


def found(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as error:
        Tree.model_validate(value)
    return [(each.place, each.sentence) for each in mistakes(error.value, Tree, Terms(whole="the tree"))]


@pytest.mark.parametrize(
    ("value", "place", "sentence"),
    [
        ({}, "name", "name is missing"),
        ([], "", "the tree must be an object"),
        ({"name": 3}, "name", "name = 3 must be a valid string"),
        ({"name": "x" * 99, "leaf": {"size": 0}}, "leaf.size", "leaf.size = 0 must be greater than or equal to 1"),
        ({"name": "a", "leaf": {"sise": 2}}, "leaf.sise", "unknown field leaf.sise; did you mean 'size'?"),
        ({"name": "a", "leaf": {"zzzz": 2}}, "leaf.zzzz", "unknown field leaf.zzzz; there are: kind, size"),
        ({"name": ["x" * 99]}, "name", "name must be a valid string"),
        # a member of a union is no key, even if a key is called so
        ({"name": "a", "parts": [{"kind": "branch"}]}, "parts.0.leaf", "parts.0.leaf is missing"),
        (
            {"name": "a", "parts": [{"kind": "leaf", "size": 0}]},
            "parts.0.size",
            "parts.0.size = 0 must be greater than or equal to 1",
        ),
        # keys of dictionaries are kept, even if a field is called so
        (
            {"name": "a", "rows": {"leaf": {"size": [3]}}},
            "rows.leaf.size",
            "rows.leaf.size = [3] must be an object",
        ),
    ],
)
def test_a_mistake_is_named_by_its_keys(value: Any, place: str, sentence: str) -> None:
    assert found(value) == [(place, sentence)]


def test_members_of_a_union_are_not_in_the_place() -> None:
    assert [place for place, _ in found({"name": "a", "label": [{"size": 0}]})] == ["label", "label.0.size"]


def test_all_mistakes_are_found_and_the_first_is_the_reason() -> None:
    with pytest.raises(ValidationError) as error:
        Tree.model_validate({"nam": "a"})
    assert [each.kind for each in mistakes(error.value)] == ["missing", "extra_forbidden"]
    assert reason(error.value) == "name is missing"
    assert reason(KeyError("config")) == "KeyError: 'config'"
