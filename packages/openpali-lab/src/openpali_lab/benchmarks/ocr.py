"""OCR engines for prompts with OCR text: Tesseract, RapidOCR, or a JSON file with the texts of any other.

The paper uses a commercial service. Texts are cached by a hash of the image's pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from openpali.data.media.images import image_hash
from openpali.eval.ocr import OcrEngine
from openpali.eval.provenance import hash_code, hash_model
from openpali.home import home
from openpali.infer.pali import Pali
from openpali.messages import cannot_import, shorten
from openpali.mistakes import reason
from openpali.tasks.example import Image
from openpali.whole import write_whole
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.parts import WORDS

TIMEOUT = 120  # seconds per image
MOST_TALL = 8  # height per width that RapidOCR gets


@dataclass(frozen=True)
class Tesseract:
    """Tesseract, run as a command (Debian ``tesseract-ocr``).

    Attributes:
        languages: value of its option ``-l``, as "eng+deu".
        layout: its page segmentation mode: 3 finds columns and lines, 11 sparse text in any order.
        command: the program.
    """

    languages: str = "eng"
    layout: int = 3
    command: str = "tesseract"

    @cached_property
    def name(self) -> str:
        version = self._run("--version").splitlines()[0].strip()
        return f"{version} -l {self.languages} --psm {self.layout}"

    def read(self, image: Image, key: str) -> str:
        png = io.BytesIO()
        PILImage.fromarray(image).save(png, "PNG", compress_level=1)
        try:
            text = self._run(
                "stdin", "stdout", "-l", self.languages, "--psm", str(self.layout), given=png.getvalue()
            )
        except ValueError as error:
            raise ValueError(f"OCR of sample {key}: {error}") from error
        return " ".join(text.split())

    def _run(self, *arguments: str, given: bytes = b"") -> str:
        program = shutil.which(self.command)
        if program is None:
            raise ValueError(
                f"the command {self.command!r} is not installed: install tesseract-ocr (Debian), or give "
                "rapidocr, or a JSON file with the texts"
            )
        one_thread = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # its threads slow down images of this size
        try:
            done = subprocess.run(
                [program, *arguments],
                input=given,
                capture_output=True,
                timeout=TIMEOUT,
                env=one_thread,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"{self.command} did not finish within {TIMEOUT} seconds") from error
        if done.returncode:
            complaint = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise ValueError(f"{self.command} failed: {complaint[-300:]}")
        return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class RapidOcr:
    """RapidOCR: PaddleOCR's models, which are in its wheel, on ONNX Runtime (extra ``ocr``)."""

    @cached_property
    def name(self) -> str:
        self._engine  # noqa: B018  # without the package there is no name
        return " ".join(f"{package} {version(package)}" for package in ("rapidocr", "onnxruntime"))

    def read(self, image: Image, key: str) -> str:
        height, width = image.shape[:2]
        # It enlarges the shorter side of a tall image to 736 pixels, however long the other one gets.
        missing = max(0, -(-height // MOST_TALL) - width)
        padded = np.pad(image, ((0, 0), (0, missing), (0, 0)), "edge")
        try:
            lines = self._engine(PILImage.fromarray(padded)).txts or ()
        except Exception as error:  # of any of its libraries
            complaint = shorten(" ".join(reason(error).split()), 300)
            raise ValueError(f"OCR of sample {key}: RapidOCR failed: {complaint}") from error
        return " ".join(" ".join(lines).split())

    @cached_property
    def _engine(self) -> Any:
        try:
            import onnxruntime  # noqa: F401  # which RapidOCR does not require
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ValueError(cannot_import("this OCR needs RapidOCR", "openpali-lab[ocr]", error)) from error
        return RapidOCR(params={"Global.log_level": "critical"})


class PageReader:
    """A model of ours that finds and reads lines, such as nano.

    Args:
        name: as for :meth:`Pali.from_pretrained`.
    """

    def __init__(self, name: str) -> None:
        pali = Pali.from_pretrained(name)
        self.reader = reader_of_bundle(pali)
        hashes = hash_model(pali, WORDS), hash_code({"openpali_screen": ("**/*.py",)})
        self.name = " ".join(["openpali", pali.name, *(each[:16] for each in hashes)])

    def read(self, image: Image, key: str) -> str:
        """The lines in reading order, as one text."""
        return " ".join(line.text for line in self.reader.page(image).lines)


class JsonTexts:
    """Texts from a JSON object that maps :func:`image_hash`, or the sample's key, to text."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        try:
            texts = json.loads(data)
            if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
                raise ValueError("it holds something else")
        except ValueError as error:
            raise ValueError(
                f"{path} must be a JSON object of sample keys (or hashes) to texts: {error}"
            ) from error
        self.path, self._texts = path, texts
        self.name = f"{path.name} {hashlib.sha256(data).hexdigest()[:16]}"

    def read(self, image: Image, key: str) -> str:
        """The text, by hash or else by key."""
        for name in (image_hash(image), key):
            if name in self._texts:
                return " ".join(self._texts[name].split())
        raise ValueError(f'{self.path} has no text for sample {key}: if the image has no text, map it to ""')


class Cached:
    """An engine with a cache on disk, one small file per image; processes may share it."""

    def __init__(self, engine: OcrEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder / hashlib.sha256(engine.name.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.engine.name

    def read(self, image: Image, key: str) -> str:
        """The engine's text; each image is read once."""
        path = self.folder / f"{image_hash(image)}.txt"
        if path.is_file():
            return path.read_text("utf-8")
        text = self.engine.read(image, key)
        write_whole(path, text.encode())
        return text


def open_ocr(name: str) -> OcrEngine:
    """An engine, cached: ``tesseract`` (or ``tesseract:eng+deu``), ``rapidocr`` or a model that reads pages; or the
    path of a JSON file.

    Raises:
        FileNotFoundError: it is none of these.
    """
    engine, _, languages = name.partition(":")
    if engine == "tesseract":
        return Cached(Tesseract(languages or "eng"), home() / "ocr")
    if name == "rapidocr":
        return Cached(RapidOcr(), home() / "ocr")
    if Path(name).is_file():
        return JsonTexts(Path(name))
    try:
        return Cached(PageReader(name), home() / "ocr")
    except FileNotFoundError as error:
        told = f"{name} is no OCR engine, file or model: give tesseract, rapidocr, a JSON file, or nano"
        raise FileNotFoundError(told) from error
