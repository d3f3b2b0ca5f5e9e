"""The page, in a real browser: Debian's Chromium. Without one the tests are skipped, but not in CI."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image as PILImage
from playwright.sync_api import Browser, Page, expect
from requests_to import LIMITS, chat, data_url, service_of, serving

from browser_fixture import NEEDS_CHROMIUM, browser
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Prediction, Row
from openpali.serve.limits import Limits
from openpali.serve.service import Served, Service
from openpali.tasks.base import Answer
from openpali.tasks.example import Box, Image, Object
from openpali_screen.bundles import reader_of_bundle

__all__ = ["browser"]  # a fixture

pytestmark = NEEDS_CHROMIUM
MASK = np.zeros((60, 90), bool)
MASK[20:40, 50:80] = True
FOUND = [Object("horse", Box(10, 20, 40, 60), confidence=0.875), Object("cat", Box(20, 50, 40, 80), MASK, 0.25)]


@pytest.fixture(scope="module")
def service(pali: Pali) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pali, "about", "It has no names.")
        yield service_of(pali)


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    """A server whose model, without names, finds a horse and a cat; asked about the unknown, images are OOD."""
    pipeline = service.scheduler.pali.pipeline()
    predict = pipeline.prediction

    def prediction(row: Row, *given: Any) -> Prediction:
        found = predict(row, *given)
        if row.task.name != "detect":
            return found
        score = 1.5 if "unknown" in row.prompt else 0.5
        return Prediction(row.prompt, Answer("two", FOUND), found.generation, ood_score=score)

    pipeline.prediction = prediction  # type: ignore[method-assign, assignment]
    with serving(service) as address:
        yield address
    del pipeline.prediction


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; at the end nothing was loaded from elsewhere, and no script had an error."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1200, "height": 800})
    page, asked, errors = context.new_page(), list[str](), list[str]()
    page.set_default_timeout(60_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(url)
    expect(page.locator("#model")).to_have_text("tiny")
    yield page
    context.close()
    assert not [each for each in asked if not each.startswith((url, "blob:", "data:"))]
    assert not [each for each in errors if "the server responded with a status of 4" not in each]


@pytest.fixture
def photo(tmp_path: Path, images: Sequence[Image]) -> Path:
    path = tmp_path / "it's a photo.png"
    PILImage.fromarray(images[0]).save(path)
    return path


def choose(page: Page, task: str, *, text: str = "", lang: str = "") -> None:
    page.get_by_role("radio", name=task, exact=True).check(force=True)
    if text:
        page.locator("#text").fill(text)
    if lang:
        page.locator("#lang").select_option(lang)


def enter(page: Page) -> None:
    """Ask by keyboard, once the image is read and nothing else is being answered."""
    expect(page.locator("#ask")).to_be_visible()
    expect(page.locator("#ask")).to_be_enabled()
    page.keyboard.press("Enter")


def test_an_example_is_asked_with_a_click(page: Page) -> None:
    expect(page.locator("#knows")).to_have_text("It has no names.")
    tries = page.locator(".example")
    expect(tries.first).to_be_visible()
    assert tries.nth(1).locator("img").evaluate("async each => (await each.decode(), each.naturalWidth)") == 144
    assert not tries.filter(has_text="Russian").count(), "tiny does not answer in it"
    assert not tries.filter(has_text="Video").count(), "this server takes fewer images than it has frames"
    tries.filter(has_text="Find").click()
    expect(page.locator("#examples")).to_be_hidden()
    expect(page.locator("#about")).to_have_text("detect-1.png · 144 × 144")
    expect(page.locator(".card h2")).to_have_text("Find: fire truck")
    expect(page.locator(".box")).to_have_count(2)
    page.locator("#remove").click()
    tries.filter(has_text="Read a screen").click()
    expect(page.locator(".card .meta").first).to_contain_text("screen.webp")
    page.locator("#remove").click()
    tries.filter(has_text="German").click()
    expect(page.locator(".card .meta").first).to_contain_text(re.compile(r"German · caption-in-german-1.png · \d"))


def test_examples_are_asked_beside_others_and_a_double_click_stops_nothing(page: Page, photo: Path) -> None:
    page.route("**/v1/read", lambda route: None)  # never answered
    tries = page.locator(".example")
    tries.filter(has_text="Read a screen").click()
    expect(page.locator(".card.running")).to_have_count(1)
    page.locator("#remove").click()
    tries.filter(has_text="German").click()
    expect(page.locator(".card").first.locator(".meta")).to_contain_text(re.compile(r"German · .* · \d"))
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".card").last).to_have_class(re.compile("stopped"))
    page.set_input_files("#files", photo)
    choose(page, "Read")
    page.locator("#ask").dblclick()
    expect(page.locator(".card.running")).to_have_count(1)
    page.locator("#stop").click()
    expect(page.locator(".card.stopped")).to_have_count(2)


def test_enter_asks_wherever_it_means_nothing_else(page: Page, photo: Path) -> None:
    choose(page, "Describe")
    page.set_input_files("#files", photo)
    cards = page.locator(".card")
    for count, focus in enumerate(("#files", "[name=task]:checked", "body"), 1):
        page.evaluate(
            "each => each === 'body' ? document.activeElement.blur() : document.querySelector(each).focus()", focus
        )
        enter(page)
        expect(cards).to_have_count(count)


def test_a_name_has_one_colour_whatever_is_beside_it(page: Page) -> None:
    colours = page.evaluate(
        """async (answers) => {
          const { coloursOf } = await import("/page/overlay.js");
          return answers.map((names) => coloursOf(names.map((name) => ({ name }))));
        }""",
        [["dog"], ["cat", "dog", "cat"], list("abcdefgh")],
    )
    assert [colours[1][0], colours[0][0], colours[1][0]] == colours[1]
    assert len(set(colours[1])) == 2
    assert len(set(colours[2])) == 8


def test_a_caption_in_japanese(page: Page, url: str, images: Sequence[Image], photo: Path) -> None:
    expect(page.locator("#empty")).to_be_visible()
    expect(page.locator("#ask")).to_be_disabled()
    page.set_input_files("#files", photo)
    expect(page.locator("#about")).to_have_text("it's a photo.png · 90 × 60")
    choose(page, "Describe", lang="ja")
    expect(page.locator("#note")).to_contain_text("not trained on task caption")
    pieces = page.evaluate_handle(
        """() => { const seen = []; new MutationObserver((all) => all.forEach((each) =>
        each.target.className === "said" && each.addedNodes.forEach((node) => seen.push(node.data))))
        .observe(document.body, { childList: true, subtree: true }); return seen; }"""
    )
    page.locator("#ask").click()
    body = chat("", data_url(images[0]), task="caption", lang="ja")
    [choice] = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"]
    assert choice["openpali"]["prompt"] == "Generate the alt_text in ja at 0: <extra_id_0>"
    text = choice["message"]["content"]
    card = page.locator(".card")
    expect(card.locator(".meta")).to_contain_text(re.compile(r"Japanese · it's a photo.png · \d"))
    assert (card.locator(".said").text_content() or "").removesuffix(" …") == text
    assert card.locator(".said").get_attribute("lang") == "ja"
    assert len([piece for piece in pieces.json_value() if piece]) > 3, "it came as a stream"


def test_boxes_are_at_their_pixels(page: Page, photo: Path) -> None:
    page.set_input_files("#files", photo)
    choose(page, "Find", text="horse and cat")
    enter(page)
    expect(page.locator(".box")).to_have_count(2)
    frame = page.locator("#image").bounding_box()
    assert frame is not None
    scale = frame["width"] / 90
    assert frame["height"] == pytest.approx(60 * scale, abs=1)
    for i, each in enumerate(FOUND):
        at = page.locator(".box").nth(i).bounding_box()
        assert at is not None
        edges = [at["y"] - frame["y"], at["x"] - frame["x"], at["height"], at["width"]]
        y, x, bottom, right = each.box
        assert edges == pytest.approx([y * scale, x * scale, (bottom - y) * scale, (right - x) * scale], abs=1.5)
    mask = page.locator(".mask").evaluate(
        "each => [...each.getContext('2d').getImageData(0, 0, 90, 60).data].filter((_, i) => i % 4 === 3)"
    )
    np.testing.assert_array_equal(np.array(mask).reshape(60, 90) > 0, MASK)
    expect(page.locator(".objects")).to_have_text(re.compile("horse.*88.%.*cat.*25.%"))
    expect(page.locator(".warning")).to_be_hidden()
    page.locator(".objects button").nth(1).hover()
    expect(page.locator(".box.hot")).to_have_text(re.compile("cat 25.%"))
    page.locator(".box").first.hover(position={"x": 5, "y": 30})
    expect(page.locator(".objects .hot")).to_contain_text("horse")
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download overlay").click()
    assert downloading.value.suggested_filename == "it's a photo-detect.png"
    drawn = np.array(PILImage.open(downloading.value.path()).convert("RGB")).astype(int)
    assert drawn.shape == (60, 90, 3)
    horse = page.locator(".box").first.evaluate("each => getComputedStyle(each).getPropertyValue('--colour')")
    lined = np.abs(drawn - list(bytes.fromhex(horse.strip().removeprefix("#")))).sum(-1) < 60
    assert lined[27:39, 20].all(), "the left edge of the horse's box"
    assert lined[45:].mean() < 0.05, "nothing is drawn there"


def test_a_page_is_read_as_text_to_select_and_copy(
    page: Page, photo: Path, pali: Pali, images: Sequence[Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openpali_screen.text._LEGIBLE", 0.0)  # what a random reader reads is no text
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.set_input_files("#files", photo)
    choose(page, "Read")
    enter(page)
    lines = reader_of_bundle(pali).read_page(images[0])
    words = [word for line in lines for word in line.words]
    spans = page.locator(".words span")
    expect(spans).to_have_count(len(words))
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    frame = page.locator("#image").bounding_box()
    assert frame is not None
    scale = frame["width"] / 90
    for span, word in zip(spans.all(), words, strict=True):
        at = span.bounding_box()
        assert at is not None
        places = [at["y"] - frame["y"], at["x"] - frame["x"], at["height"]]
        box = word.box
        assert places == pytest.approx([box.ymin * scale, box.xmin * scale, (box.ymax - box.ymin) * scale], abs=1.5)
        assert re.fullmatch(rf"{re.escape(word.text)}: \d+\s%", span.get_attribute("title") or "")
        assert span.evaluate("each => getComputedStyle(each).color") == "rgba(0, 0, 0, 0)"
    selected = page.evaluate(
        "(getSelection().selectAllChildren(document.querySelector('.words')), getSelection().toString())"
    )
    texts = [line.text for line in lines]
    assert [line.strip() for line in selected.strip().split("\n")] == texts
    page.get_by_role("button", name="Copy text").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert [line for line in copied.split("\n") if line] == texts
    page.evaluate(
        """async () => { await navigator.clipboard.writeText("");
        Object.defineProperty(navigator, "clipboard", { value: undefined }); }"""
    )  # as over http from another machine
    page.get_by_role("button", name="Copy text").click()  # once it no longer says "Copied"
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    again = page.evaluate(
        "Object.getPrototypeOf(navigator).__lookupGetter__('clipboard').call(navigator).readText()"
    )
    assert [line for line in again.split("\n") if line] == texts
    expect(page.locator(".curl pre")).to_contain_text("/v1/read")


def test_a_pdf_file_is_read_and_a_screenshot_offers_reading_first(
    page: Page, photo: Path, tmp_path: Path, images: Sequence[Image]
) -> None:
    tasks = page.locator("[name=task]")
    page.set_input_files("#files", photo)
    assert tasks.evaluate_all("each => each.map(({ value }) => value)")[:2] == ["caption", "vqa"]
    screen = tmp_path / "screen.png"
    PILImage.new("RGB", (400, 300)).save(screen)
    page.set_input_files("#files", screen)
    expect(page.locator("#about")).to_have_text("screen.png · 400 × 300")
    assert tasks.evaluate_all("each => each.map(({ value }) => value)")[:2] == ["read", "detect"]
    expect(page.get_by_role("radio", name="Read", exact=True)).to_be_checked()
    choose(page, "Describe")
    first, second = (PILImage.fromarray(each) for each in images[:2])
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[second], resolution=72)
    page.set_input_files("#files", tmp_path / "two.pdf")
    expect(page.locator("#about")).to_have_text("two.pdf")
    expect(page.get_by_role("radio", name="Read", exact=True)).to_be_checked()
    enter(page)
    expect(page.locator(".raw pre").first).to_contain_text('"page": 2')
    page.get_by_role("button", name="Copy text").click()
    expect(page.locator(".card .said").first).not_to_be_empty()


def test_no_confidence_is_shown_for_an_image_that_the_model_does_not_know(page: Page, photo: Path) -> None:
    page.set_input_files("#files", photo)
    choose(page, "Find", text="an unknown")
    enter(page)
    expect(page.locator(".warning")).to_have_text(re.compile("out of the distribution that tiny"))
    expect(page.locator(".objects")).to_have_text(re.compile("horse.*cat"))
    assert "%" not in "".join(page.locator(each).inner_text() for each in (".meta", ".objects", "#layer"))


def test_many_questions_about_one_image_by_keyboard_and_curl(page: Page, url: str, photo: Path) -> None:
    page.set_input_files("#files", photo)
    page.get_by_role("radio", name="Find").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.type("what costs $5 `or` \\6?")
    page.keyboard.press("Enter")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#ask")).to_be_visible()
    choose(page, "Find", text="horse")
    page.keyboard.press("Enter")
    expect(page.locator(".card h2").first).to_have_text("Find: horse")
    expect(page.locator(".card h2").last).to_have_text("Question: what costs $5 `or` \\6?")
    question = page.locator(".card").last
    command = question.locator(".curl pre").text_content() or ""
    done = subprocess.run(["bash", "-euc", command], cwd=photo.parent, capture_output=True, text=True)
    raw = question.locator(".raw pre").text_content() or ""
    said = "".join(re.findall(r'"content": "(.*?)"', raw))
    assert f'"content":"{said}"' in done.stdout
    assert "what costs $5 `or` \\\\6?" in done.stdout


def test_places_of_no_image_are_told_as_text(page: Page, photo: Path) -> None:
    choose(page, "Prompt", text="detect: horse")
    page.locator("#ask").click()
    expect(page.locator(".card:not(.running):not(.failed) .said")).not_to_be_empty()
    page.set_input_files("#files", photo)
    expect(page.locator("#about")).to_have_text("it's a photo.png · 90 × 60")


def test_an_answer_does_not_change_what_is_asked_about_next(
    page: Page, photo: Path, tmp_path: Path, service: Service
) -> None:
    other = tmp_path / "other.png"
    PILImage.new("RGB", (64, 64)).save(other)
    page.set_input_files("#files", photo)
    choose(page, "Find", text="horse")
    turn = service.scheduler.turn
    service.scheduler.turn = lambda: (time.sleep(0.2), turn())[1]  # type: ignore[method-assign]
    try:
        page.locator("#ask").click()
        page.set_input_files("#files", other)
        expect(page.locator("#about")).to_contain_text("other.png")
        expect(page.locator(".card:not(.running) .objects li")).to_have_count(2)
    finally:
        service.scheduler.turn = turn  # type: ignore[method-assign]
    expect(page.locator("#about")).to_contain_text("other.png")
    page.locator(".objects button").first.hover()
    expect(page.locator("#about")).to_contain_text("other.png")
    page.locator(".card .show").click()
    expect(page.locator("#about")).to_contain_text("it's a photo.png")
    expect(page.locator(".box")).to_have_count(2)


def test_frames_of_a_large_video_fit_into_a_request(page: Page, tmp_path: Path) -> None:
    video = clip(tmp_path / "large.webm", 2400, 1200, frames=4)
    page.set_input_files("#files", video)
    expect(page.locator("#about")).to_contain_text(re.compile(r"large\.webm-\d\.jpg · 1920 × 960"))


def test_enter_that_ends_a_composition_in_safari_asks_nothing(page: Page, photo: Path) -> None:
    page.set_input_files("#files", photo)
    choose(page, "Question", text="what?")
    for code, cards in ((229, 0), (13, 1)):
        page.evaluate(
            """(keyCode) => { const event = new KeyboardEvent("keydown", { key: "Enter", bubbles: true });
            Object.defineProperty(event, "keyCode", { value: keyCode });
            document.querySelector("#text").dispatchEvent(event); }""",
            code,
        )
        expect(page.locator(".card")).to_have_count(cards)


def test_errors_are_told_and_asked_again(page: Page, photo: Path) -> None:
    page.set_input_files("#files", __file__)
    expect(page.locator("#banner")).to_contain_text("is not an image that this browser can show")
    page.set_input_files("#files", photo)
    expect(page.locator("#banner")).to_be_hidden()
    choose(page, "Prompt", text="word " * 600)
    page.locator("#ask").click()
    expect(page.locator(".card.failed .said")).to_contain_text("shorten it")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card.failed")).to_have_count(2)


def test_a_stream_is_cancelled(page: Page, photo: Path, service: Service) -> None:
    turn = service.scheduler.turn
    service.scheduler.turn = lambda: (time.sleep(0.2), turn())[1]  # type: ignore[method-assign]
    try:
        page.set_input_files("#files", photo)
        choose(page, "Prompt", text="what is sent as it is?")
        page.locator("#ask").click()
        expect(page.locator(".running .said")).not_to_be_empty()
        expect(page.locator(".curl pre")).to_contain_text('"raw":true')
        page.locator("#stop").click()
        expect(page.locator(".card.stopped .meta")).to_contain_text("stopped")
        until = time.monotonic() + 20
        while service.scheduler.used and time.monotonic() < until:
            time.sleep(0.01)
        assert not service.scheduler.used
    finally:
        service.scheduler.turn = turn  # type: ignore[method-assign]
    expect(page.locator("#ask")).to_be_enabled()


def clip(path: Path, width: int, height: int, *, frames: int) -> Path:
    """A video in VP8 that gets lighter."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libvpx", rate=10)
        stream.width, stream.height = width, height
        for i in range(frames):
            frame = np.full((height, width, 3), 12 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path


def test_images_are_pasted_and_dropped_and_a_video_is_frames(
    page: Page, images: Sequence[Image], tmp_path: Path
) -> None:
    for i, way in enumerate(("paste", "drop"), 1):
        page.evaluate(
            """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt())], `${way}.png`,
              { type: "image/png" }));
            const event = way === "paste" ? new ClipboardEvent(way, { clipboardData: data, bubbles: true })
              : new DragEvent(way, { dataTransfer: data, bubbles: true });
            document.body.dispatchEvent(event); }""",
            [way, data_url(images[i]).partition(",")[2]],
        )
        expect(page.locator("#about")).to_contain_text(f"{way}.png")
    expect(page.locator("#thumbs .thumb")).to_have_count(2)
    video = clip(tmp_path / "clip.webm", 96, 64, frames=20)
    page.set_input_files("#files", video)
    expect(page.locator("#about")).to_contain_text(re.compile("clip.webm-.*96 × 64"))
    most = LIMITS.images
    expect(page.locator("#thumbs .thumb")).to_have_count(most)
    expect(page.locator("#banner")).to_contain_text(f"takes {most} images")
    expect(page.locator("#thumbs [aria-pressed=true]")).to_have_count(
        1
    )  # the image that is shown is one that stays
    expect(page.locator("#together input")).to_be_checked()
    choose(page, "Describe")
    page.locator("#ask").click()
    expect(page.locator(".card .meta")).to_contain_text(re.compile(rf"{most} frames · \d"))


def test_text_stays_text_when_it_is_dropped_or_pasted_with_a_picture(page: Page) -> None:
    choose(page, "Question")
    taken = page.evaluate(
        """() => ["drop", "paste"].map((way) => {
        const data = new DataTransfer();
        for (const type of ["text/plain", "text/html"]) data.setData(type, "what is it?");
        if (way === "paste") data.items.add(new File([], "cells.png", { type: "image/png" }));
        const event = way === "paste"
          ? new ClipboardEvent(way, { clipboardData: data, bubbles: true, cancelable: true })
          : new DragEvent(way, { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector("#text").dispatchEvent(event);
        return event.defaultPrevented; })"""
    )
    assert taken == [False, False]


def test_a_key_is_asked_for(browser: Browser, pali: Pali) -> None:
    with serving(service_of(pali, Limits(), key="secret")) as url:
        page = browser.new_page()
        page.goto(url)
        told = page.locator("#door-title")
        for key, title in (("wrong", "asks for a key"), ("secret\u200b", "refuses")):  # copied with something
            expect(told).to_contain_text(title)
            page.locator("#key").fill(key)
            page.locator("#door .button").click()
        expect(page.locator("#model")).to_have_text("tiny")
        page.close()


def test_a_key_is_kept_where_nothing_can_be_stored(browser: Browser, pali: Pali) -> None:
    with serving(service_of(pali, Limits(), key="secret")) as url:
        page = browser.new_page()
        page.add_init_script(
            """Object.defineProperty(window, "sessionStorage",
            { get() { throw new DOMException("blocked", "SecurityError"); } })"""
        )
        page.goto(url)
        page.locator("#key").fill("secret")
        page.locator("#door .button").click()
        expect(page.locator("#model")).to_have_text("tiny")
        page.close()


def test_languages_of_a_model_are_offered_as_they_are(
    browser: Browser, pali: Pali, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code that no browser knows, one that was chosen before the model, and none at all."""
    monkeypatch.setattr(pali, "languages", ("en", "ja", "pt_BR"))
    with serving(service_of(pali, adapters={"other": pali})) as address:
        page = browser.new_page(locale="en-GB")
        page.goto(address)
        choose(page, "Describe", lang="ja")
        expect(page.locator("#lang option")).to_have_text(["English", "Japanese", "pt_BR"])
        page.locator("#models").select_option("other")
        expect(page.locator("#lang")).to_have_value("ja")
        monkeypatch.setattr(pali, "languages", ())
        page.reload()
        choose(page, "Describe")
        expect(page.locator("#language")).to_be_hidden()
        page.close()


def test_a_model_of_one_language_has_no_examples_of_others(
    browser: Browser, pali: Pali, monkeypatch: pytest.MonkeyPatch
) -> None:
    [served] = service_of(pali).models.values()
    monkeypatch.setattr(Served, "tasks", [{**each, "names_language": False} for each in served.tasks])
    with serving(service_of(pali)) as address:
        page = browser.new_page(locale="en-GB")
        page.goto(address)
        expect(page.locator(".example").filter(has_text="Caption")).to_have_text(["Caption in English"])
        page.close()


def test_one_of_several_models_is_chosen(browser: Browser, pali: Pali, photo: Path) -> None:
    with serving(service_of(pali, adapters={"other": pali})) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#models option")).to_have_text(["tiny", "other"])
        expect(page.locator("#model")).to_be_hidden()
        page.set_input_files("#files", photo)
        choose(page, "Read a line")
        page.locator("#models").select_option("other")
        expect(page).to_have_title("other · OpenPaLI")
        expect(page.get_by_role("radio", name="Read a line")).to_be_checked()
        page.locator("#ask").click()
        card = page.locator(".card")
        expect(card.locator(".meta")).to_contain_text(re.compile(r"other · .* · it's a photo.png · \d"))
        assert '"model": "other"' in (card.locator(".raw pre").text_content() or "")
        assert '"model":"other"' in (card.locator(".curl pre").text_content() or "")
        page.close()


def test_an_encoder_alone_finds_and_compares(browser: Browser, detecting: Path, bundle: Path, photo: Path) -> None:
    with serving(service_of(Pali(detecting.parent / "siglip"))) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#tasks label")).to_have_text(["Find", "Compare"])
        page.set_input_files("#files", photo)
        choose(page, "Find", text="dog")
        enter(page)
        expect(page.locator(".box").first).to_be_visible()
        choose(page, "Compare")
        page.locator("#text").focus()
        page.keyboard.type("a dog")
        for _ in range(2):
            page.keyboard.press("Shift+Enter")
        page.keyboard.type("a bus")
        enter(page)
        card = page.locator(".card").first
        expect(card.locator("h2")).to_have_text("Compare: a dog, a bus")
        rows = card.locator(".objects li")
        expect(rows).to_have_count(2)
        [similarity] = json.loads(card.locator(".raw pre").text_content() or "")["similarity"]
        assert rows.locator("meter").evaluate_all("all => all.map(each => each.value)") == pytest.approx(similarity)
        for said, text, value in zip(rows.all_text_contents(), ("a dog", "a bus"), similarity, strict=True):
            assert said.startswith(text)
            assert float(said.removeprefix(text)) == pytest.approx(value, rel=0.06)
        assert f"{address}/v1/similarity" in (card.locator(".curl pre").text_content() or "")
        page.close()
    with serving(service_of(Pali(bundle / "siglip"))) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#tasks label")).to_have_text(["Compare"])
        page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_in_both_themes(browser: Browser, url: str, photo: Path, theme: Any) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=theme)
    page.goto(url)
    expect(page.locator("#model")).to_be_visible()
    page.set_input_files("#files", photo)
    choose(page, "Find", text="a very long name of a thing")
    page.locator("#ask").click()
    expect(page.locator(".box")).to_have_count(2)
    page.locator(".curl summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    [red, *_] = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(red) < 100) == (theme == "dark")
    page.close()


def test_the_documentation_is_drawn(page: Page, url: str) -> None:
    page.goto(f"{url}/docs")
    expect(page.locator(".opblock").first).to_be_visible()
