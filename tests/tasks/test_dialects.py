"""Prompts belong to a dialect: tasks render them through it, and they are recognised by it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpali.architectures.paligemma import PaliGemmaArchitecture
from openpali.architectures.registry import dialects, find_dialect
from openpali.infer.pali import Pali
from openpali.tasks import TASKS, get_task, open_task, recognise
from openpali.tasks.detect import CommaInName
from openpali.tasks.dialects import PALI3, Dialect, Template
from openpali.tasks.example import Example, Size
from openpali.tasks.registry import is_prompt, openable
from task_examples import FakeMaskCodec

SHORT = Dialect(  # in the manner of PaliGemma's
    name="short",
    prompts={"caption": "caption {lang}", "ocr": "ocr", "vqa": "answer {lang} {text}", "detect": "detect {text}"},
    ocr="{text}",
    names_joiner=" ; ",
    options={"detect": {"bins": 1024, "style": "token"}},
)


PALIGEMMA = find_dialect("paligemma")


def test_pali3_prompts_equal_the_paper() -> None:
    assert PALI3.prompts == {
        "caption": "Generate the alt_text in {lang} at {position}: {text} <extra_id_0>",
        "ocr": "Generate the ocr_text in {lang}: <extra_id_0>",
        "question_generation": "Generate a question in {lang} for {text}: <extra_id_0>",
        "vqa": "Answer in {lang}: {text} <extra_id_0>",
        "detect": "detect: {text}",
        "refseg": "detect: {text}",
    }


@pytest.mark.parametrize("dialect", dialects().values(), ids=dialects())
def test_every_form_has_the_name_of_a_task_that_uses_it(dialect: Dialect) -> None:
    for form in dialect.prompts:
        assert (TASKS[form].form or form) == form
    forms = {family.form for family in TASKS.values() if family.form}
    assert forms <= dialect.prompts.keys()


@pytest.mark.parametrize("form", PALI3.prompts)
@given(
    text=st.text(min_size=1).map(str.strip).filter(bool),
    lang=st.sampled_from(["en", "pt_BR", "zh-CN"]),
    position=st.integers(0, 99),
)
def test_templates_read_what_they_render(form: str, text: str, lang: str, position: int) -> None:
    template = PALI3.template(form)
    texts = {text, "" if form in ("caption", "vqa") else text} if "{text}" in template.pattern else {""}
    for given_text in texts:
        prompt = template.render(given_text, lang=lang, position=position)
        slots = {"text": given_text, "lang": lang, "position": str(position)}
        read = template.read(prompt)
        assert read == {slot: value for slot, value in slots.items() if f"{{{slot}}}" in template.pattern}
        assert template.begins(prompt)
        assert "  " not in template.render("", lang=lang)


def test_braces_in_a_text_stay() -> None:
    assert Template("Answer in {lang}: {text} end").render("{lang} {} {0}") == "Answer in en: {lang} {} {0} end"


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"contrastive", "denoise"}))
def test_written_prompts_are_recognised(name: str, example, rng, options) -> None:
    task = get_task(name, **options.get(name, {}))
    for _ in range(10):
        prompt = task.write(example, rng).prompt
        assert is_prompt(prompt)
        found = TASKS[recognise(prompt)]
        assert found.template_in(PALI3) == task.template
        assert not found.video
        video = TASKS[recognise(prompt, frames=8)]
        assert video.template_in(PALI3) == task.template


def test_several_images_are_a_video_where_there_is_such_a_task() -> None:
    assert recognise("Generate the alt_text in en at 0: <extra_id_0>", 8) == "video_caption"
    assert recognise("Answer in en: what moves? <extra_id_0>", 8) == recognise("what moves?", 8) == "video_qa"
    assert recognise("detect: cat", 8) == "detect"


def test_free_texts_are_questions() -> None:
    for text in ("what is this?", "detection", "Answer in one word: what is it?", ""):
        assert recognise(text) == "vqa"
        assert not is_prompt(text)
    assert recognise("Generate the ocr_text in en:") == "ocr"  # the beginning is enough
    assert not is_prompt("Generate the ocr_text in en:")


def test_only_templates_with_a_language_name_one() -> None:
    named = {name for name, family in TASKS.items() if (t := family.template_in(PALI3)) and t.names_language}
    assert named == set(TASKS) - {"contrastive", "denoise", "detect", "refseg"}


def test_another_dialect_has_other_prompts_and_options(example, rng) -> None:
    assert get_task("caption", dialect=SHORT).ask(lang="de") == "caption de"
    assert get_task("video_qa", dialect=SHORT).ask("what?") == "answer en what?"
    detect = get_task("detect", dialect=SHORT, max_names=2)
    assert {detect.write(example, rng).prompt for _ in range(50)} >= {"detect horse ; dog", "detect dog"}
    assert detect.codec.style == "token"  # by default of the dialect
    assert get_task("detect", dialect=SHORT, style="text").codec.style == "text"
    assert recognise("ocr", dialect=SHORT) == "ocr"
    assert recognise("detect cat", dialect=SHORT) == "detect"
    assert recognise("ocrs", dialect=SHORT) == "vqa"
    with pytest.raises(ValueError):
        get_task("question_generation", dialect=SHORT).ask("yes")


def test_unknown_dialects_and_forms_get_the_nearest() -> None:
    for find, name, near in ((find_dialect, "pali", "pali3"), (PALI3.template, "detct", "detect")):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            find(name)


def test_a_model_folder_names_its_dialect(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Pali.from_pretrained(bundle).dialect == PALI3
    monkeypatch.setattr(PaliGemmaArchitecture, "dialect", SHORT)
    shutil.copytree(bundle, tmp_path / "bundle")
    config = tmp_path / "bundle" / "pali" / "config.json"
    described = json.loads(config.read_text())
    described["facts"]["dialect"] = "short"
    config.write_text(json.dumps(described))
    pali = Pali.from_pretrained(tmp_path / "bundle")
    detect = pali.task("detect")
    assert detect.ask("cat") == "detect cat"
    assert detect.codec.bins == 100  # of its training, in the place of the dialect's default
    assert pali.recognise("ocr") == "ocr"
    with pytest.raises(ValueError):
        pali.write_prompt(pali.task("caption"), lang="xx")
    assert pali.write_prompt(pali.task("ocr"), lang="xx") == "ocr"  # this prompt names no language


# ---- PaliGemma


def test_paligemma_asks_as_in_its_paper(example: Example, rng: np.random.Generator) -> None:
    asked = {
        "caption": ("", "caption de"),
        "video_caption": ("", "caption de"),
        "ocr": ("", "ocr"),
        "vqa": ("how many dogs?", "answer de how many dogs?"),
        "question_generation": ("two", "question de two"),
        "detect": ("dog ; horse", "detect dog ; horse"),
        "refseg": ("the red horse", "segment the red horse"),
    }
    for name, (text, prompt) in asked.items():
        task = get_task(name, dialect=PALIGEMMA)
        assert task.ask(text, lang="de") == prompt
        assert recognise(prompt, 8 if task.video else 1, PALIGEMMA) == name
        assert is_prompt(prompt, PALIGEMMA)
    detect = get_task("detect", dialect=PALIGEMMA)
    named = replace(example, objects=[replace(example.objects[0], name="dog, wild")])
    with pytest.warns(CommaInName) as warned:
        assert detect.ask("dog, wild") == detect.write(named, rng).prompt == "detect dog, wild"
    assert len(warned) == 1  # only of the request
    assert recognise("what is this?", dialect=PALIGEMMA) == "vqa"
    with pytest.raises(ValueError):
        get_task("split_caption", dialect=PALIGEMMA).write(replace(example, captions={"en": ["a b"]}), Last())


class Last(np.random.Generator):
    """Always the last of the choices."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def integers(self, high: int) -> int:  # type: ignore[override]
        return high - 1


def test_paligemma_locates_as_in_its_paper(example: Example, rng: np.random.Generator) -> None:
    detect = get_task("detect", dialect=PALIGEMMA, order="reading")
    sample = detect.write(replace(example, objects=example.objects[:2]), rng)
    assert sample.prompt == "detect dog"
    assert sample.target == ("<loc0512><loc0034><loc0767><loc0205> dog ; <loc0614><loc0682><loc0972><loc0989> dog")
    for text in (sample.target, sample.target.replace(" ; ", ";"), sample.target + " ; ", sample.target + ";"):
        found = detect.parse(text, example.size, strict=True).objects
        assert [thing.name for thing in found] == ["dog", "dog"]
        assert found[0].box == pytest.approx((100, 10, 150, 60), abs=0.2)
    assert detect.parse("none", example.size, strict=True).objects == ()
    with pytest.raises(ValueError):
        detect.codec.encode_named([((0, 0, 9, 9), "a ; b")], (20, 20))


def test_paligemma_segments_as_in_its_paper(example: Example, rng: np.random.Generator) -> None:
    segment = get_task("refseg", dialect=PALIGEMMA, masks=FakeMaskCodec())
    two = replace(example, expression="a dog", referred=[0, 1])
    sample = segment.write(two, rng)
    assert sample.prompt == "segment a dog"
    one = r"(<loc[0-9]{4}>){4}(<seg[0-9]{3}>){16}"
    assert re.fullmatch(f"{one} a dog ; {one} a dog", sample.target)
    for text in (sample.target, sample.target.replace(" ; ", ";"), sample.target.replace(" a dog", "")):
        found = segment.parse(text, example.size, strict=True).objects
        assert [thing.name for thing in found] == ["a dog" if "dog" in text else ""] * 2
        assert found[1].mask is not None
        assert found[1].mask.any()
    assert segment.parse("no <loc0001> " + sample.target, Size(*example.size)).objects[0].name == "a dog"
    with pytest.raises(ValueError, match="character 1: four coordinates"):
        segment.parse("nothing", example.size, strict=True)


# ---- tools


def test_tools_are_made_for_the_tasks_that_need_them(tokenizer) -> None:
    made: list[str] = []

    def masks() -> FakeMaskCodec:
        made.append("masks")
        return FakeMaskCodec()

    tools = {"masks": masks, "tokenizer": lambda: tokenizer, "max_inputs": lambda: 7}
    assert open_task("vqa", {}, tools) == get_task("vqa")
    assert made == []
    assert isinstance(open_task("refseg", {"bins": 16}, tools).masks, FakeMaskCodec)
    assert made == ["masks"]
    denoise = open_task("denoise", None, tools)
    assert (denoise.tokenizer, denoise.max_inputs, denoise.max_targets) == (tokenizer, 7, 128)
    assert open_task("refseg").masks is None


def test_what_can_be_opened_depends_on_the_tools(tokenizer) -> None:
    assert set(TASKS) - set(openable({})) == {"denoise"}
    assert set(openable({"tokenizer": lambda: tokenizer})) == set(TASKS)
    with pytest.raises(ValueError):
        open_task("denoise")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_needs_are_fields_or_images(name: str) -> None:
    fields = set(TASKS[name].__dataclass_fields__)
    assert TASKS[name].needs - {"images"} <= fields


def test_options_do_not_choose_the_dialect() -> None:
    assert open_task("vqa", {"dialect": SHORT}).dialect == PALI3
    assert open_task("vqa", dialect=SHORT) == replace(get_task("vqa"), dialect=SHORT)
