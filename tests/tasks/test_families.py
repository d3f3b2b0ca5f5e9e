"""Properties of every family, and the prompt of each."""

import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openpali.reports.drawing import draw_prediction
from openpali.tasks import TASKS, Answer, get_task
from openpali.tasks.example import Size
from openpali.text.tokenizer import MODES
from openpali_lab.worlds.vocabulary_texts import PROMPT_TEXTS

FAMILIES = sorted(TASKS)
PROMPTS = {
    "contrastive": "{x}",
    "denoise": "{x}",
    "split_caption": "Generate the alt_text in fr at 1: {x} <extra_id_0>",
    "ocr": "Generate the ocr_text in fr: <extra_id_0>",
    "caption": "Generate the alt_text in fr at 0: <extra_id_0>",
    "video_caption": "Generate the alt_text in fr at 0: <extra_id_0>",
    "vqa": "Answer in fr: {x} <extra_id_0>",
    "video_qa": "Answer in fr: {x} <extra_id_0>",
    "object_vqa": "Answer in fr: {x} <extra_id_0>",
    "question_generation": "Generate a question in fr for {x}: <extra_id_0>",
    "detect": "detect: {x}",
    "refseg": "detect: {x}",
    "classify": "Answer in fr: {x} <extra_id_0>",
}
TAKE_NO_TEXT = {"caption", "video_caption", "ocr"}
NEED_NO_TEXT = {*TAKE_NO_TEXT, "split_caption", "classify"}


def test_all_families_are_registered() -> None:
    assert set(PROMPTS) == set(TASKS)
    assert all(family.name == name for name, family in TASKS.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_equal_the_paper(name: str, options) -> None:
    task = get_task(name, **options.get(name, {}))
    text = "" if name in TAKE_NO_TEXT else "word"
    assert task.ask(f" {text} ", lang="fr") == PROMPTS[name].format(x=text)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_or_superfluous_text_is_refused(name: str, options) -> None:
    task = get_task(name, **options.get(name, {}))
    if name in TAKE_NO_TEXT:
        with pytest.raises(ValueError):
            task.ask("words")
    if name not in NEED_NO_TEXT:
        with pytest.raises(ValueError):
            task.ask(" \n")


@pytest.mark.parametrize("name", FAMILIES)
def test_written_targets_are_well_formed_and_draw(name: str, example, rng, options) -> None:
    task = get_task(name, **options.get(name, {}))
    for _ in range(20):
        sample = task.write(example, rng)
        assert sample.target
        assert sample.target in sample.references
        answer = task.parse(f" {sample.target} ", example.size, strict=True)
        assert answer.text == sample.target
        image = draw_prediction(example.images[0], answer)
        assert image.width == 300
        assert np.asarray(image).min() < 255
    assert (example.images[0] == 255).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_generator_is_the_only_source_of_randomness(name: str, example, options) -> None:
    task = get_task(name, **options.get(name, {}))
    np.random.seed(0)  # noqa: NPY002
    first = [task.write(example, np.random.default_rng(seed)) for seed in range(8)]
    np.random.seed(1)  # noqa: NPY002
    assert first == [task.write(example, np.random.default_rng(seed)) for seed in range(8)]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_example_without_the_field_is_refused_by_key(name: str, empty, rng, options) -> None:
    with pytest.raises(ValueError, match="empty-1"):
        get_task(name, **options.get(name, {})).write(empty, rng)


@pytest.mark.parametrize("name", FAMILIES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    text=st.text()
    | st.lists(
        st.sampled_from(["1", "50", "2", "70", "1000", "dog", "none", "<mask_token1>" * 16, "<mask_token999>"])
    ).map(" ".join)
)
def test_the_lenient_parser_takes_any_answer(name: str, options, text: str) -> None:
    task = get_task(name, **options.get(name, {}))
    size = Size(100, 80)
    answer = task.parse(text, size)
    assert isinstance(answer, Answer)
    for thing in answer.objects:
        assert 0 <= thing.box.ymin < thing.box.ymax <= 100
        assert 0 <= thing.box.xmin < thing.box.xmax <= 80
        assert thing.mask is None or thing.mask.shape == (100, 80)
    draw_prediction(np.zeros((100, 80, 3), np.uint8), answer)
    try:
        strict = task.parse(text, size, strict=True)
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert [thing.box for thing in strict.objects] == [thing.box for thing in answer.objects]


def test_the_fixed_words_are_in_the_vocabulary(example, rng, options) -> None:
    taught = set(re.findall(r"\w+", " ".join(PROMPT_TEXTS)))
    data = set(
        re.findall(r"\w+", f"{example.question} {example.expression} {' '.join(example.vocabulary)} red dark")
    )
    asked = {name for name, family in TASKS.items() if not family.prompt}  # in the dialect's words, not their own
    for name in asked - {"split_caption"}:
        for _ in range(40):
            prompt = get_task(name, **options.get(name, {})).write(example, rng).prompt
            words = set(re.findall(r"\w+", prompt)) - {*data, *example.captions}
            assert words <= taught, f"{name}: {words - taught}"


def test_unknown_names_and_options_get_the_nearest() -> None:
    for name, wrong, named in (
        ("captoin", {}, "did you mean 'caption'"),
        ("zzz", {}, "there are: .*caption"),
        ("caption", {"langages": ["en"]}, "did you mean 'languages'"),
        ("question_generation", {"lang": "en"}, "'lang'"),
        ("denoise", {}, "'tokenizer'"),
    ):
        with pytest.raises(ValueError, match=named):
            get_task(name, **wrong)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("detect", {"bins": 1}, "bins"),
        ("detect", {"style": "words"}, "style"),
        ("detect", {"absent": 2.0}, "absent"),
        ("detect", {"order": "area"}, "order"),
        ("detect", {"max_names": 0}, "max_names"),
        ("refseg", {"bins": 0}, "bins"),
        ("object_vqa", {"kinds": ["is", "why"]}, "kinds"),
        ("object_vqa", {"kinds": []}, "kinds"),
        ("object_vqa", {"choices": 1}, "choices"),
        ("detect", {"bins": "16"}, "task detect: option bins"),
        ("vqa", {"ocr": "False"}, "task vqa: option ocr"),
        ("caption", {"languages": 3}, "task caption: option languages"),
        ("classify", {"question": 5}, "task classify: option question"),
    ],
)
def test_wrong_options_are_refused_at_once(name: str, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_task(name, **options)


def test_tasks_are_frozen_and_take_one_language_or_several() -> None:
    task = get_task("caption", languages="en")
    assert task == get_task("caption", languages=["en"])
    with pytest.raises(FrozenInstanceError):
        task.languages = ()
    assert len(MODES) == 3
