"""What `openpali_local.yaml` asks for, in lmms-eval's own words."""

from __future__ import annotations

from typing import Any

from PIL import Image


def images(doc: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(doc["image"])]


def judge(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"acc": float(results[0] == doc["answer"])}
