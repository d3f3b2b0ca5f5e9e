"""Text of pictures from an OCR engine, for prompts "with OCR input" (PaLI-3 section 4.1).

The paper's engine is a commercial service. Here are Tesseract, by its command, and a JSON file with what any other
engine has found. Texts are cached by the hash of the picture's pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image as PILImage

from openpali.data.sources.base import Source
from openpali.home import home
from openpali.tasks.example import Example, Image

TIMEOUT = 120  # seconds for a picture


class OcrEngine(Protocol):
    """Whatever reads pictures."""

    @property
    def name(self) -> str:
        """What it is, with everything that its answers depend on; part of score cards and of the cache's key."""
        ...

    def read(self, image: Image, key: str) -> str:
        """The text in a picture ``[H, W, 3]``, words separated by spaces; empty if there is none.

        Args:
            key: the sample's name.

        Raises:
            ValueError, OSError: the engine cannot read it.
        """
        ...


def image_hash(image: Image) -> str:
    """SHA-256 of a picture's size and pixels ``[H, W, 3]``, in hexadecimal digits."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Tesseract:
    """Tesseract (Debian ``tesseract-ocr``) by its command.

    Attributes:
        languages: as its option ``-l`` takes them, "eng+deu".
        layout: its page segmentation mode; 3 finds columns and lines, 11 sparse text in any order.
        command: the program.

    Raises:
        ValueError: on first use, if the command is not there.
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
                f"there is no command {self.command!r}: install Tesseract (Debian: tesseract-ocr), or give a JSON "
                "file with the texts"
            )
        one_thread = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # its threads make a picture of this size slower
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


class JsonTexts:
    """Texts that are there already: a JSON object of :func:`image_hash`, or of the sample's key, to text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f"no OCR engine is called {path}, and there is no such file: give tesseract, or JSON"
            )
        data = path.read_bytes()
        try:
            texts = json.loads(data)
            if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
                raise ValueError("it is not that")
        except ValueError as error:
            raise ValueError(
                f"{path} must be a JSON object of sample keys (or hashes) to texts: {error}"
            ) from error
        self.path, self._texts = path, texts
        self.name = f"{path.name} {hashlib.sha256(data).hexdigest()[:16]}"

    def read(self, image: Image, key: str) -> str:
        """The text, by hash or else by key.

        Raises:
            ValueError: the file has neither.
        """
        for name in (image_hash(image), key):
            if name in self._texts:
                return " ".join(self._texts[name].split())
        raise ValueError(f'{self.path} has no text for sample {key}: if there is none in the picture, say "" there')


class Cached:
    """An engine whose texts are kept in a folder, one small file per picture; processes may share it."""

    def __init__(self, engine: OcrEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder / hashlib.sha256(engine.name.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The engine's."""
        return self.engine.name

    def read(self, image: Image, key: str) -> str:
        """As the engine does, but once per picture."""
        path = self.folder / f"{image_hash(image)}.txt"
        if path.is_file():
            return path.read_text("utf-8")
        text = self.engine.read(image, key)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(text, "utf-8")
        partial.replace(path)  # at once: nobody sees half a text
        return text


def open_ocr(name: str) -> OcrEngine:
    """An engine by name: ``tesseract`` (or ``tesseract:eng+deu``), cached, or the path of a JSON file.

    Raises:
        FileNotFoundError, ValueError: there is none, or its file is something else.
    """
    engine, _, languages = name.partition(":")
    if engine == "tesseract":
        return Cached(Tesseract(languages or "eng"), home() / "ocr")
    return JsonTexts(Path(name))


@dataclass(frozen=True)
class WithOcr:
    """A source whose examples have in ``text`` what an engine reads in their pictures; of frames, each text once.

    Text that a data set has already is replaced.

    Attributes:
        fits: whether a model takes the prompt of an example. Where it does not, the last words of the text are left
            out, as many as must be: a page can hold more than a prompt does.
    """

    source: Source
    engine: OcrEngine
    fits: Callable[[Example], bool] = lambda example: True

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Example:
        example = self.source[index]
        texts = dict.fromkeys(self.engine.read(image, example.key) for image in example.images)
        words = " ".join(filter(None, texts)).split()

        def beginning(count: int) -> Example:
            return replace(example, text=" ".join(words[:count]))

        if self.fits(whole := beginning(len(words))):
            return whole
        most = bisect_left(range(1, len(words) + 1), True, key=lambda count: not self.fits(beginning(count)))
        return beginning(most)
