"""OCR engines: the Tesseract command, a JSON file, the cache, and prompts with OCR text."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from openpali import Pali
from openpali.data.media.images import image_hash
from openpali.eval import provenance
from openpali.eval.ocr import WithOcr
from openpali.tasks.caption import Caption
from openpali.tasks.example import Example
from openpali.tasks.vqa import Vqa
from openpali_lab.benchmarks.ocr import Cached, JsonTexts, RapidOcr, Tesseract, open_ocr
from openpali_screen.bundles import reader_of_bundle


def sign(text: str) -> np.ndarray:
    image = Image.new("RGB", (60 + 30 * len(text), 90), "white")
    ImageDraw.Draw(image).text((30, 20), text, fill="black", font=ImageFont.load_default(40))
    return np.array(image)


@dataclass
class Spy:
    """An engine that records the keys it reads."""

    name: str = "spy"
    seen: list[str] = field(default_factory=list)

    def read(self, image: np.ndarray, key: str) -> str:
        self.seen.append(key)
        return f"text of {key}"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A stand-in for Tesseract: reads a PNG from stdin and prints its arguments."""
    path = tmp_path / "reader"
    path.write_text(
        f"#!{sys.executable}\n"
        "import io, os, sys\n"
        "if sys.argv[1:] == ['--version']:\n"
        "    print('reader 1.0\\n more'); sys.exit()\n"
        "if 'xxx' in sys.argv:\n"
        "    sys.exit('no language xxx')\n"
        "from PIL import Image\n"
        "size = Image.open(io.BytesIO(sys.stdin.buffer.read())).size\n"
        "print('ünï\\n\\n  code', size, *sys.argv[1:], os.environ['OMP_THREAD_LIMIT'], '\\f')\n"
    )
    path.chmod(0o755)
    return path


def test_the_command_gets_the_image_and_its_text_is_one_line(command: Path) -> None:
    engine = Tesseract("eng+deu", 11, str(command))
    assert engine.name == "reader 1.0 -l eng+deu --psm 11"
    assert engine.read(sign("A"), "k") == "ünï code (90, 90) stdin stdout -l eng+deu --psm 11 1"


def test_a_failure_of_the_command_is_one_sentence(command: Path) -> None:
    with pytest.raises(ValueError, match=r"OCR of sample k: .*reader failed: no language xxx"):
        Tesseract("xxx", command=str(command)).read(sign("A"), "k")


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="needs the program: Debian tesseract-ocr")
def test_tesseract_reads() -> None:
    engine = Tesseract()
    assert engine.name.startswith("tesseract ")
    assert engine.read(sign("HELLO WORLD 42"), "k") == "HELLO WORLD 42"
    assert engine.read(np.full((60, 80, 3), 255, np.uint8), "k") == ""


def test_rapidocr_gets_an_image_that_is_not_too_tall(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in; test_rapidocr.py asks the engine itself."""
    seen = []

    def read(image: Image.Image) -> SimpleNamespace:
        seen.append(image.size)
        if image.size == (7, 7):
            raise RuntimeError("a tensor\nis empty")
        return SimpleNamespace(txts=None if image.getextrema() == ((255, 255),) * 3 else ("two ", "lines"))

    for module in ("rapidocr", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(RapidOCR=lambda params: read))
    engine = RapidOcr()
    assert engine.read(sign("A"), "k") == "two lines"
    assert engine.read(np.full((801, 3, 3), 255, np.uint8), "k") == ""
    assert seen == [(90, 90), (101, 801)]
    with pytest.raises(ValueError, match=r"OCR of sample k: RapidOCR failed: RuntimeError: a tensor is empty"):
        engine.read(np.zeros((7, 7, 3), np.uint8), "k")


def test_engines_that_are_not_installed_name_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for make, fix in (
        (partial(Tesseract, command="nowhere"), "the command 'nowhere' is not installed: install tesseract-ocr"),
        (RapidOcr, r"RapidOCR: pip install 'openpali-lab\[ocr\]' \(the import failed: .*onnxruntime"),
    ):
        with pytest.raises(ValueError, match=fix):
            _ = make().name


def test_an_image_is_read_once_whatever_its_key(tmp_path: Path) -> None:
    spy = Spy()
    for engine in (Cached(spy, tmp_path), Cached(spy, tmp_path)):  # the second finds what the first has read
        assert engine.read(sign("A"), "a") == "text of a"
        assert engine.read(sign("A"), "b") == "text of a"
    assert engine.read(sign("B"), "b") == "text of b"
    assert spy.seen == ["a", "b"]
    other = Spy("another engine")
    assert Cached(other, tmp_path).read(sign("A"), "c") == "text of c"


def test_hash_is_of_pixels_and_size() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    assert image_hash(flat) == image_hash(flat.copy())
    assert len({image_hash(x) for x in (flat, flat.reshape(6, 4, 3), flat + 1)}) == 3


def test_json_by_hash_or_key(tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps({image_hash(sign("A")): "stop\nsign", "b": "exit", "c": ""}))
    engine = open_ocr(str(path))
    assert [engine.read(sign(text), key) for text, key in (("A", "x"), ("B", "b"), ("C", "c"))] == [
        "stop sign",
        "exit",
        "",
    ]
    with pytest.raises(ValueError):
        engine.read(sign("D"), "d")
    assert engine.name.startswith("texts.json ")


@pytest.mark.parametrize("written", ["{", "[]", '{"a": 1}'])
def test_other_files_are_refused(tmp_path: Path, written: str) -> None:
    path = tmp_path / "texts.json"
    path.write_text(written)
    with pytest.raises(ValueError, match="must be a JSON object of sample keys"):
        JsonTexts(path)
    with pytest.raises(FileNotFoundError):
        open_ocr("tessaract")


def test_a_model_that_reads_pages_is_an_engine(bundle: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 200, 3), np.uint8)
    engine = open_ocr(str(bundle))
    text = engine.read(image, "x")
    assert text == " ".join(line.text for line in reader_of_bundle(Pali.from_pretrained(bundle)).read_page(image))
    assert len(text) > 10
    assert engine.read(image, "x") == text  # from the cache


def test_a_text_is_read_again_once_the_code_that_reads_has_changed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_ocr(str(bundle)).name
    assert open_ocr(str(bundle)).name == before
    nowhere = SimpleNamespace(__file__="/nowhere/__init__.py")  # no code is there
    monkeypatch.setattr(provenance, "resolve_name", lambda name: nowhere)
    assert open_ocr(str(bundle)).name != before


def test_examples_and_prompts_hold_the_text() -> None:
    frames = [sign("A"), sign("A"), sign("B")]
    examples = [
        Example("a", images=[sign("A")], question="what?", answers=["x"], captions={"en": ["y"]}, text="old"),
        Example("film", images=frames),
    ]
    source = WithOcr(examples, Spy())  # type: ignore[arg-type]
    assert len(source) == 2
    rng = np.random.default_rng(0)
    assert Vqa(ocr=True).write(source[0], rng).prompt == "Answer in en: what? OCR: text of a <extra_id_0>"
    assert Caption(ocr=True).write(source[0], rng).prompt == (
        "Generate the alt_text in en at 0: OCR: text of a <extra_id_0>"
    )
    assert "OCR" not in Caption().write(source[0], rng).prompt
    assert source[1].text == "text of film"  # three frames, one text


def test_a_long_text_loses_its_last_words() -> None:
    engine = Spy()
    examples = [Example("one two three", images=[sign("A")])]  # read as "text of one two three"
    for room, text in (
        (100, "text of one two three"),
        (12, "text of one"),
        (11, "text of one"),
        (10, "text of"),
        (0, ""),
    ):
        source = WithOcr(examples, engine, lambda example, room=room: len(example.text) <= room)  # type: ignore[arg-type, misc]
        assert source[0].text == text


def test_the_eval_command_takes_ocr_texts(openpali, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docvqa"
    (folder / "documents").mkdir(parents=True)
    data = [
        {"questionId": i, "question": "date?", "image": "documents/a.png", "answers": ["1 may"]} for i in range(2)
    ]
    (folder / "val_v1.0_withQT.json").write_text(json.dumps({"data": data}))
    Image.fromarray(sign("A")).save(folder / "documents" / "a.png")
    texts, card = tmp_path / "texts.json", tmp_path / "card.json"
    texts.write_text(json.dumps({"0": "red", "1": "blue " * 1000}))
    arguments = ["eval", "docvqa", "--model", bundle, "--data", tmp_path, "--ocr", texts, "--json", card]
    openpali(*arguments)
    assert json.loads(card.read_text())["prompt"]["first"] == "Answer in en: date? OCR: red <extra_id_0>"
