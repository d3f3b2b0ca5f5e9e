"""Captions, reading, questions, pretraining."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as hypothesis_example
from hypothesis import strategies as st

from openpali.tasks import get_task
from openpali.tasks.example import Box, Example, Object, Size
from openpali.tasks.object_vqa import place


def many(task, example, count=200):
    return [task.write(example, np.random.default_rng(seed)) for seed in range(count)]


def test_captions_in_all_languages_or_some(example) -> None:
    samples = many(get_task("caption"), example)
    assert {(s.kind, s.target) for s in samples} == {(k, c) for k, cs in example.captions.items() for c in cs}
    share = np.mean([s.kind == "en" for s in samples])
    assert share == pytest.approx(1 / 3, abs=0.1)  # languages, not captions, are equally likely
    some = many(get_task("caption", languages=["ja", "de", "ko"]), example)
    assert {s.kind for s in some} == {"ja", "de"}
    assert all(s.prompt == f"Generate the alt_text in {s.kind} at 0: <extra_id_0>" for s in samples)
    assert all(list(s.references) == example.captions[s.kind] for s in samples)


def test_unknown_language_is_refused(example, rng) -> None:
    for name in ("caption", "split_caption", "contrastive"):
        with pytest.raises(ValueError):
            get_task(name, languages=["ko", "fr"]).write(example, rng)


def test_captions_split_at_words(example) -> None:
    samples = many(get_task("split_caption", languages="de"), example)
    assert {(s.prompt, s.target) for s in samples} == {
        ("Generate the alt_text in de at 0: <extra_id_0>", "Ein rotes Pferd."),
        ("Generate the alt_text in de at 1: Ein <extra_id_0>", "rotes Pferd."),
        ("Generate the alt_text in de at 2: Ein rotes <extra_id_0>", "Pferd."),
    }


def test_captions_without_spaces_split_at_characters(example) -> None:
    samples = many(get_task("split_caption", languages="ja"), example)
    assert {(s.prompt, s.target) for s in samples} == {
        (
            f"Generate the alt_text in ja at {i}: {'赤い馬です。'[:i]}{' ' if i else ''}<extra_id_0>",
            "赤い馬です。"[i:],
        )
        for i in range(6)
    }


def test_vowel_signs_stay_with_their_letter(rng) -> None:
    thai = Example("t", captions={"th": ["ม้าสีแดง"]})
    assert not any(s.target[0] in "้ี" for s in many(get_task("split_caption"), thai))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1).filter(str.strip), st.sampled_from(["en", "ja", "zh_CN"]), st.integers(0, 2**32))
@hypothesis_example("\r\u0300" + "0", "ja", 0)  # an accent without a letter
def test_both_halves_make_the_caption_and_ask_has_the_same_position(caption: str, lang: str, seed: int) -> None:
    task = get_task("split_caption")
    sample = task.write(Example("c", captions={lang: [caption]}), np.random.default_rng(seed))
    beginning = sample.prompt.split(": ", 1)[1].removesuffix("<extra_id_0>").strip()
    assert "".join((beginning + sample.target).split()) == "".join(caption.split())
    assert task.ask(beginning, lang=lang) == sample.prompt


def test_blank_captions_are_refused(rng) -> None:
    with pytest.raises(ValueError):
        get_task("split_caption").write(Example("b", captions={"en": [" "]}), rng)


def test_prompts_name_the_language_of_the_example(example, rng) -> None:
    french = replace(example, lang="fr")
    assert get_task("ocr").write(french, rng).prompt == "Generate the ocr_text in fr: <extra_id_0>"
    assert get_task("ocr").write(french, rng).target == "Hi {there}\nétranger"
    sample = get_task("vqa").write(french, rng)
    assert sample.prompt == "Answer in fr: what color is the horse? <extra_id_0>"
    assert (sample.kind, sample.references) == ("color", ("red", "dark red"))
    asked = {s.prompt for s in many(get_task("question_generation"), french)}
    assert asked == {f"Generate a question in fr for {answer}: <extra_id_0>" for answer in example.answers}


def test_ocr_text_of_an_engine_follows_the_question(example, rng) -> None:
    assert get_task("vqa", ocr=True).write(example, rng).prompt == (
        "Answer in en: what color is the horse? OCR: Hi {there}\nétranger <extra_id_0>"
    )


@pytest.mark.parametrize("name", ["vqa", "video_qa", "question_generation"])
@pytest.mark.parametrize("field", ["question", "answers"])
def test_questions_need_both_parts(name: str, field: str, example, rng) -> None:
    with pytest.raises(ValueError, match=f"sample scene-7 has no {field}"):
        get_task(name).write(replace(example, **{field: ""}), rng)


def test_classifies_with_its_own_question(example, rng) -> None:
    sample = get_task("classify", question="which garment is this?").write(example, rng)
    assert sample.prompt == "Answer in en: which garment is this? <extra_id_0>"
    assert sample.target == "horse"


@pytest.fixture
def answers(example) -> dict[str, set[tuple[str, str]]]:
    samples = many(get_task("object_vqa"), example, 1000)
    by_kind: dict[str, set[tuple[str, str]]] = {}
    for sample in samples:
        question = sample.prompt.removeprefix("Answer in en: ").removesuffix(" <extra_id_0>")
        by_kind.setdefault(sample.kind, set()).add((question, sample.target))
    return by_kind


def test_object_questions_have_true_answers(answers) -> None:
    assert answers["is"] == {
        ("is cat in the image?", "no"),
        ("is cow in the image?", "no"),
        ("is dog in the image?", "yes"),
        ("is horse in the image?", "yes"),
    }
    assert answers["list"] == {("list the objects present", "dog, horse")}
    assert answers["count"] == {
        ("how many dog are in the image?", "2"),
        ("how many horse are in the image?", "1"),
    }
    assert answers["where"] == {("where is the horse?", "top left")}  # two dogs have no single place
    which = dict(answers["which"])
    assert which["which of cat, horse and dog are in the image?"] == "horse and dog"
    assert which["which of cat and cow are in the image?"] == "none"
    assert which["which of horse and cow are in the image?"] == "horse"


def test_yes_and_no_are_balanced(example) -> None:
    samples = many(get_task("object_vqa", kinds="is"), example, 1000)
    assert np.mean([s.target == "yes" for s in samples]) == pytest.approx(0.5, abs=0.05)


def test_kinds_that_do_not_suit_are_left_out(example, rng) -> None:
    lonely = replace(example, objects=example.objects[:2], vocabulary=[])
    assert {s.kind for s in many(get_task("object_vqa"), lonely)} == {"is", "list", "count"}
    with pytest.raises(ValueError, match="scene-7"):
        get_task("object_vqa", kinds=["where"]).write(lonely, rng)


@pytest.mark.parametrize(
    ("center", "where"),
    [
        ((15, 15), "top left"),
        ((15, 50), "top"),
        ((15, 85), "top right"),
        ((50, 15), "left"),
        ((50, 50), "center"),
        ((50, 85), "right"),
        ((85, 15), "bottom left"),
        ((85, 50), "bottom"),
        ((85, 85), "bottom right"),
        ((50, 34), None),
        ((66, 50), None),
    ],
)
def test_places_are_nine_regions(center, where) -> None:
    y, x = center
    assert place(Box(y - 5, 2 * x - 5, y + 5, 2 * x + 5), Size(100, 200)) == where


def test_denoises_text_or_else_captions(example, tokenizer) -> None:
    task = get_task("denoise", tokenizer=tokenizer, max_inputs=32, max_targets=16)
    samples = many(task, replace(example, text="the quick brown fox jumps over the lazy dog " * 5))
    assert {s.kind for s in samples} == {"[R]", "[S]", "[X]"}
    for sample in samples:
        inputs, targets = sample.ids
        assert len(inputs) <= 32
        assert len(targets) <= 16
        assert tokenizer.decode([inputs[0]]) == sample.kind
        assert tokenizer.sentinel_id(0) in inputs
        assert tokenizer.decode(targets).strip() == sample.target
    from_captions = many(task, Example("c", captions={"en": ["the dog"]}), 20)
    assert any("dog" in s.target for s in from_captions)


def test_contrastive_pairs_have_no_prompt(example) -> None:
    samples = many(get_task("contrastive", languages=["en"]), example)
    assert {(s.prompt, s.target) for s in samples} == {("", caption) for caption in example.captions["en"]}


def test_objects_without_an_image_have_no_place(rng) -> None:
    with pytest.raises(ValueError):
        get_task("object_vqa").write(Example("p", objects=[Object("dog", Box(0, 0, 1, 1))]), rng)


def test_a_class_is_the_label_the_largest_object_or_one_for_all(example: Example, empty: Example, rng) -> None:
    def target(**options: Any) -> str:
        return get_task("classify", **options).write(example, rng).target

    assert target() == "horse"
    assert target(of="object") == "dog"  # the one at the bottom right is larger than the horse
    assert target(label="text") == "text"
    assert target(groups={"animal": ["horse", "dog"], "tree": ["oak"]}) == "animal"
    assert target(of="object", groups={"tree": ["oak"]}) == "dog"
    assert get_task("classify").group_of("horse\n") == "horse"  # as targets are
    with pytest.raises(ValueError):
        get_task("classify", of="object").write(empty, rng)
    with pytest.raises(ValueError):
        get_task("classify", of="thing")
    for groups in ({"animal": ["dog"], "pet": ["cat", "dog"]}, {"animal": "dog"}):
        with pytest.raises(ValueError, match="groups"):
            get_task("classify", groups=groups)
