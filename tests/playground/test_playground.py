"""The page in Chromium, on a tiny model in float32: it answers as Python does, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from in_browser import RUNTIME, ask, files_at
from PIL import Image as PilImage
from playwright.sync_api import Browser, Page, expect

from browser_fixture import NEEDS_CHROMIUM, browser
from openpali import Pali
from openpali.infer.bulk import as_json
from openpali_lab.playground.build import MADE, build, fingerprint

__all__ = ["browser"]  # a fixture

pytestmark = [
    NEEDS_CHROMIUM,
    pytest.mark.skipif(
        not RUNTIME.is_dir(), reason="no onnxruntime-web in build/npm: `make playground` gets it with npm"
    ),
]
ELSEWHERE = "http://127.0.0.1:1/"


@pytest.fixture(scope="module")
def tiny(bundle: Path) -> Pali:
    """A model that answers nonsense, and its masks."""
    return Pali.from_pretrained(bundle / "pali")


@pytest.fixture(scope="module")
def folder(bundle: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("playground")
    shutil.copytree(exported, out / "models")
    before = {path: path.stat().st_mtime for path in out.rglob("*.onnx")}
    pali = Pali.from_pretrained(bundle / "pali")
    for part in {path.parent.name for path in before}:
        (out / "models" / part / MADE).write_text(fingerprint(pali, part, int8=False))
    build(out, RUNTIME, str(bundle / "pali"), int8=False)
    assert {path: path.stat().st_mtime for path in out.rglob("*.onnx")} == before, "graphs that are there are kept"
    return out


@pytest.fixture(scope="module")
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page, opened; at the end nothing was loaded from elsewhere, and no script had an error."""
    asked, errors = list[str](), list[str]()
    with files_at(folder) as url:
        page = browser.new_page(viewport={"width": 390, "height": 800}, locale="en-GB")
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(url)
        expect(page.locator("#model")).to_be_visible()
        yield page
        page.close()
    assert not [each for each in asked if not each.startswith((url, "blob:", "data:", ELSEWHERE))]
    assert not [each for each in errors if ELSEWHERE not in each]


def test_it_answers_as_python_does(page: Page, tiny: Pali, tmp_path: Path) -> None:
    preprocess = tiny.pipeline().preprocess
    assert preprocess is not None
    shape = (preprocess.height, preprocess.width, 3)  # a random model tells pixels apart that differ by rounding
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    PilImage.fromarray(image).save(file := tmp_path / "image.png")
    for name, text in (("caption", ""), ("vqa", "what is it?"), ("detect", "horse"), ("ocr", "")):
        task = tiny.task(name)
        [expected] = tiny.predict([[image]], [tiny.write_prompt(task, text)], task=task)
        found = ask(page, file, name, text, "en")
        assert found["text"].strip() == expected.answer.text, name
        ours, own = as_json(expected), found["openpali"]
        assert own["finish_reason"] == ours["finish_reason"]
        assert own["score"] == pytest.approx(ours["score"], abs=1e-2)
        assert len(own["objects"]) == len(ours["objects"])
        for one, other in zip(own["objects"], ours["objects"], strict=True):
            assert one["box"] == pytest.approx(other["box"])


def test_an_example_is_asked_with_a_click_and_the_model_is_loaded_once(page: Page) -> None:
    page.reload()
    tries = page.locator(".example")
    assert tries.first.locator("img").evaluate("async each => (await each.decode(), each.naturalWidth)") == 144
    assert not tries.filter(has_text="Video").count()
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    seen = page.evaluate_handle(
        """() => { const seen = [], loading = document.querySelector("#loading");
        new MutationObserver(() => seen.push(loading.innerText))
        .observe(loading, { childList: true, subtree: true, attributes: true }); return seen; }"""
    )
    tries.filter(has_text="Find").click()
    card = page.locator(".card")
    expect(card.locator(".meta")).to_contain_text(re.compile(r"detect-1.png · \d"))
    assert not [url for url in loaded if url.endswith((".onnx", ".wasm"))], "the browser kept the model"
    assert any(re.search(r"Loading the model.*\d+\.\d of \d+\.\d MB", text, re.S) for text in seen.json_value())
    expect(page.locator("#loading")).to_be_hidden()
    expect(card.locator(".curl")).to_be_hidden()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        [red, *_] = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (int(red) < 100) == (theme == "dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    raw = json.loads(card.locator(".raw pre").text_content() or "")
    assert raw["openpali"]["prompt"] == "detect: fire truck"


def test_a_question_is_stopped_and_errors_are_told(page: Page, tmp_path: Path) -> None:
    page.get_by_role("radio", name="Question", exact=True).check(force=True)
    page.locator("#text").fill("word " * 600)
    page.locator("#ask").click()
    expect(page.locator(".card.failed .said").first).to_contain_text("shorten it")
    page.locator("#text").fill("what is it?")
    page.evaluate("document.querySelector('#ask').click(), document.querySelector('#stop').click()")
    expect(page.locator(".card.stopped .meta").first).to_contain_text("stopped")
    expect(page.locator("#ask")).to_be_enabled()


def test_a_browser_lets_it_send_nothing_elsewhere(page: Page) -> None:
    blocked = page.evaluate(
        """(url) => new Promise((done) => { document.addEventListener("securitypolicyviolation", (event) =>
        done(event.effectiveDirective)); fetch(url).then(() => done("sent"), () => {}); })""",
        ELSEWHERE,
    )
    assert blocked == "connect-src"


def test_without_the_package_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"npm install --prefix .* onnxruntime-web"):
        build(tmp_path / "out", tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()
