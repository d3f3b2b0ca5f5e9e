"""Every format that ``openpali data import`` reads. A new one is a file in this folder and a line below."""

from __future__ import annotations

import json
from pathlib import Path

from openpali.data.importers import coco, docvqa, table
from openpali.data.importers.base import Imported, Importer, Request, records
from openpali.data.sources.files import relative_to
from openpali.data.sources.records import parse_record
from openpali.messages import hint
from openpali.whole import replacing

IMPORTERS: dict[str, Importer] = {
    "coco": coco.read,
    "csv": table.read,
    "docvqa": docvqa.read,
}
"""Name of a format -> what reads it."""


def import_data(format: str, path: Path, out: Path, *, images: Path | None = None) -> Imported:
    """Write annotations in another format as JSONL (docs/data.md).

    The images stay where they are; their paths in the file are relative to it. The file appears complete or not at
    all.

    Args:
        format: one of :data:`IMPORTERS`.
        path: the annotations, a file or a folder.
        out: the JSONL file to write.
        images: folder of the images, if it is not the one that the format prescribes.
    """
    if format not in IMPORTERS:
        raise ValueError(f"no format {format!r}; {hint(format, IMPORTERS)}")
    if out.suffix != ".jsonl":
        raise ValueError(f"--out {out}: the file is JSONL, so its name must end in .jsonl")
    if images and not images.is_dir():
        raise FileNotFoundError(f"--images {images} is not a folder")
    log, request, seen = Imported(out=str(out)), Request(path, images), set[Path]()
    with replacing(out) as new:
        with new.open("w", encoding="utf-8", newline="\n") as file:
            for image, fields in records(IMPORTERS[format](request, log), request, log):
                whole = image.resolve()
                name = relative_to(whole, out.resolve().parent)
                line = json.dumps({"key": fields.get("key", ""), "images": name, **fields}, ensure_ascii=False)
                with log.counting(str(image)):
                    parse_record(line, "its record")
                    file.write(line + "\n")
                    seen.add(whole)
                    log.samples += 1
                    log.objects += len(fields.get("objects", ()))
        log.images = len(seen)
        if not log.samples:
            reasons = [f"{count:,} x {kind} ({log.messages[kind][0]})" for kind, count in log.problems.items()]
            raise ValueError(f"nothing of {path} can be used: {'; '.join(reasons) or 'it has no samples'}")
    return log
