"""What ``bundle.json`` says: models that answer together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, field_validator

from openpali.weights.files import BUNDLE, SIGLIP


def _listed(value: Any) -> Any:
    """Parts of a task; a single one may be given as a string."""
    return (value,) if isinstance(value, str) else value


class BundleConfig(BaseModel):
    """Models that answer together, as ``bundle.json`` describes them.

    Attributes:
        parts: part name ("pali" is the default, "siglip", "mask_vqvae", ...) -> model folder.
        tasks: task name -> the part that answers it, where that is not the default. Of several, the best answer is
            given, see :mod:`openpali.infer.routing`; without an image, the first answers.
        languages: codes of the languages it answers in; empty: unknown.
        about: sentences for people on which images it knows; may be empty.
        names: of the objects that it can find; empty: unknown.
    """

    parts: dict[str, Path]
    tasks: dict[str, Annotated[tuple[str, ...], BeforeValidator(_listed)]] = {}
    languages: tuple[str, ...] = ()
    about: str = ""
    names: tuple[str, ...] = ()

    @field_validator("tasks")
    @classmethod
    def _compares_no_image_encoder(cls, tasks: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for task, parts in tasks.items():
            if SIGLIP in parts and len(parts) > 1:
                raise ValueError(f"{SIGLIP} answers {task} alone: name no other part beside it")
        return tasks

    def write(self, folder: Path) -> None:
        """Write the ``bundle.json`` of a folder that has each part in a subfolder of its name."""
        about = self.model_dump(exclude={"parts"} | (set() if self.names else {"names"}))
        described = {"parts": {part: part for part in self.parts}, **about}
        (folder / BUNDLE).write_text(json.dumps(described, indent=1) + "\n", "utf-8")
