"""Writes each data set of the paper and of screens, tiny, in the layout of its owners: the fields that are read.

Images are drawn in one colour that their name determines, so that a test can see which one was read; frame ``i``
of a video is grey of value ``5 * i``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FRAME_RATE = 10
FRAMES = 50


@dataclass(frozen=True)
class Expected:
    """What opening the data set must give.

    Attributes:
        count: samples.
        key, question, references, kind: of the first; for captions the question is empty.
        image: name that the first sample's colour comes from; empty for videos.
        file, field: a file whose absence must be reported, and one of its fields.
        other: a file that is missed instead.
        frames: indices of the frames of the first sample; empty for images.
    """

    count: int
    key: str
    question: str
    references: list[str]
    kind: str
    image: str
    file: str
    field: str
    other: str = ""
    frames: tuple[int, ...] = ()


def colour(name: str) -> np.ndarray:
    return 40 + np.frombuffer(hashlib.sha256(name.encode()).digest()[:3], np.uint8).astype(int) % 180


def draw(path: Path, size: tuple[int, int] = (48, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(colour(path.name).astype(np.uint8), (*size, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def film(path: Path, frames: int = FRAMES, codec: str = "mpeg4") -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE)
        stream.width, stream.height = 64, 48
        stream.bit_rate = 8_000_000
        for i in range(frames):
            grey = np.full((48, 64, 3), 5 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())


def dump(path: Path, value: object) -> None:
    dump_text(path, json.dumps(value, ensure_ascii=False))


def dump_lines(path: Path, values: list[object]) -> None:
    dump_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def dump_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def dump_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def coco_captions(root: Path) -> Expected:
    images = []
    for number, split in ((9, "train"), (42, "test"), (73, "test"), (74, "restval")):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        draw(root / "coco" / folder / name)
        sentences = [{"raw": f"A horse {number}."}, {"raw": "The animal in a field."}]
        facts = {"filepath": folder, "filename": name, "split": split, "cocoid": number}
        images.append({**facts, "sentences": sentences})
    dump(root / "coco" / "dataset_coco.json", {"images": images, "dataset": "coco"})
    references, image = ["A horse 42.", "The animal in a field."], "COCO_val2014_000000000042.jpg"
    return Expected(2, "42", "", references, "en", image, "coco/dataset_coco.json", "raw")


_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
XM_LANGUAGES = _CODES.split()


def xm3600(root: Path) -> Expected:
    rows: list[object] = []
    for i in range(3):
        key = f"000411001ff7dd4{i}"
        draw(root / "xm3600" / "images" / f"{key}.jpg")
        captions = {lang: {"caption": [f"{lang} {i}", f"{lang} {i} again"]} for lang in XM_LANGUAGES}
        rows.append({"image/key": key, "image/locale": "ar", **captions})
    file, key = "xm3600/captions.jsonl", "000411001ff7dd40"
    dump_lines(root / file, rows)
    return Expected(108, f"{key}_ar", "", ["ar 0", "ar 0 again"], "ar", f"{key}.jpg", file, "caption")


def screen2words(root: Path) -> Expected:
    file, split = "screen2words/screen_summaries.csv", "screen2words/split/test_screens.txt"
    rows = [[screen, f"page {i} of {screen}"] for screen in (11, 12, 13) for i in range(2)]
    dump_csv(root / file, ["screenId", "summary"], rows)
    dump_text(root / split, "12\n13\n")
    for screen in (11, 12, 13):
        draw(root / "rico" / "combined" / f"{screen}.jpg", (96, 54))
    return Expected(2, "12", "", ["page 0 of 12", "page 1 of 12"], "en", "12.jpg", file, "summary", split)


WIDGET_BOUNDS = (160, 1280, 1120, 1920)  # left, top, right, bottom in RICO's 1440 x 2560


def widgetcap(root: Path) -> Expected:
    captions = "widget-caption/widget_captions.csv"
    rows = [[11, "0.0", "never|asked"], [12, "0.1.0", "go to menu|open menu|"], [12, "0.0", "search|find"]]
    dump_csv(root / captions, ["screenId", "nodeId", "captions"], rows)
    dump_text(root / "widget-caption" / "split" / "test.txt", "12\n")
    leaf, other = {"bounds": list(WIDGET_BOUNDS)}, {"bounds": [0, 0, 720, 640]}
    tree = {"bounds": [0, 0, 1440, 2560], "children": [other, {"bounds": [0, 0, 1440, 2560], "children": [leaf]}]}
    for screen in (11, 12):
        draw(root / "rico" / "combined" / f"{screen}.jpg", (960, 540))
        dump(root / "rico" / "combined" / f"{screen}.json", {"activity": {"root": tree}})
    names, file = ["go to menu", "open menu"], "rico/combined/12.json"
    return Expected(2, "12_0.1.0", "", names, "en", "12.jpg", file, "bounds", captions)


def textcaps(root: Path) -> Expected:
    file, images = "textcaps/TextCaps_0.1_val.json", ("0054c91397f2fe05", "003a8ae2ef43b901")
    data = [
        {"image_id": image, "caption_str": f"A book {i} called {image}."}
        for i, image in enumerate((images[0], *images))
    ]
    dump(root / file, {"dataset_name": "textcaps", "data": data})
    for image in images:
        draw(root / "textvqa" / "train_images" / f"{image}.jpg")
    references = [f"A book {i} called {images[0]}." for i in range(2)]
    return Expected(2, images[0], "", references, "en", f"{images[0]}.jpg", file, "caption_str")


TEN = ["nokia"] * 8 + ["nokia phone", "toshiba"]


def textvqa(root: Path) -> Expected:
    file, image = "textvqa/TextVQA_0.5.1_val.json", "003a8ae2ef43b901"
    data = [
        {"question": f"what is the brand {i}?", "image_id": image, "question_id": 34602 + i, "answers": TEN}
        for i in range(3)
    ]
    dump(root / file, {"dataset_name": "textvqa", "data": data})
    draw(root / "textvqa" / "train_images" / f"{image}.jpg")
    return Expected(3, "34602", "what is the brand 0?", TEN, "", f"{image}.jpg", file, "answers")


def _vqa(root: Path, questions: str, annotations: str) -> None:
    rows = [{"image_id": 42, "question": f"how many {i}?", "question_id": 42000 + i} for i in range(3)]
    dump(root / questions, {"task_type": "Open-Ended", "questions": rows})
    answers = [{"answer": "2" if j < 7 else "two", "answer_confidence": "yes"} for j in range(10)]
    answered = [
        {"answers": answers, "answer_type": "number" if i < 2 else "other", "question_id": 42000 + i}
        for i in reversed(range(3))  # in another order than the questions
    ]
    dump(root / annotations, {"annotations": answered})
    draw(root / "coco" / "val2014" / "COCO_val2014_000000000042.jpg")


TWO = ["2"] * 7 + ["two"] * 3


def vqav2(root: Path) -> Expected:
    names = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
    _vqa(root, *names)
    image = "COCO_val2014_000000000042.jpg"
    return Expected(3, "42000", "how many 0?", TWO, "number", image, names[1], "answer_type")


def okvqa(root: Path) -> Expected:
    names = ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/mscoco_val2014_annotations.json")
    _vqa(root, *names)
    image = "COCO_val2014_000000000042.jpg"
    return Expected(3, "42000", "how many 0?", TWO, "", image, names[0], "question")


def tallyqa(root: Path) -> Expected:
    images = ("VG_100K_2/2410408.jpg", "VG_100K/1.jpg", "val2014/COCO_val2014_000000000042.jpg")
    rows = [
        {
            "answer": 2 + i,
            "image": name,
            "image_id": 100 + i,
            "issimple": i != 1,
            "question": f"how many dogs {i}?",
            "question_id": 30 + i,
        }
        for i, name in enumerate(images)
    ]
    dump(root / "tallyqa" / "test.json", rows)
    for name in images:
        draw(root / ("visual_genome" if name.startswith("VG") else "coco") / name)
    return Expected(
        3, "100_30", "how many dogs 0?", ["2"], "simple", "2410408.jpg", "tallyqa/test.json", "issimple"
    )


def st_vqa(root: Path) -> Expected:
    names = [f"coco-text/COCO_train2014_{i:012d}.jpg" for i in range(40)]
    signs = ["stop", "stop sign"]
    data = [
        {"question": f"what is on sign {i}?", "answers": signs, "question_id": i, "file_path": name}
        for i, name in enumerate(names)
    ]
    dump(root / "stvqa" / "train_task_3.json", {"dataset_name": "st-vqa", "data": data})
    for name in names:
        draw(root / "stvqa" / "train_images" / name)
    hashes = [hashlib.sha256(name.encode()).digest()[:8] for name in names]
    held_out = [i for i, each in enumerate(hashes) if int.from_bytes(each, "big") % 10 == 0]
    first, file = held_out[0], "stvqa/train_task_3.json"
    image = f"COCO_train2014_{first:012d}.jpg"
    return Expected(len(held_out), str(first), f"what is on sign {first}?", signs, "", image, file, "file_path")


def ocr_vqa(root: Path) -> Expected:
    books = {
        str(asin): {
            "imageURL": f"http://ecx.images-amazon.com/images/I/51{asin}.jpg",
            "questions": ["Who wrote it?", "Is it a novel?"],
            "answers": [f"Author {asin}", "no"],
            "split": split,
        }
        for asin, split in ((761183272, 1), (1449421, 3), (1449422, 3))
    }
    file = "ocrvqa/dataset.json"
    dump(root / file, books)
    for asin in books:
        draw(root / "ocrvqa" / "images" / f"{asin}.jpg")
    return Expected(4, "1449421_0", "Who wrote it?", ["Author 1449421"], "", "1449421.jpg", file, "imageURL")


def infographicvqa(root: Path) -> Expected:
    image, file = "10002.jpeg", "infographicvqa/infographicsVQA_val_v1.0_withQT.json"
    data = [
        {
            "questionId": 98313 + i,
            "question": f"which colours {i}?",
            "image_local_name": image,
            "answers": ["red, blue", "both"],
        }
        for i in range(2)
    ]
    dump(root / file, {"dataset_name": "infographicsVQA", "dataset_split": "val", "data": data})
    draw(root / "infographicvqa" / "infographicsvqa_images" / image, (160, 40))
    references = ["red, blue", "blue, red", "both"]
    return Expected(2, "98313", "which colours 0?", references, "", image, file, "image_local_name")


def docvqa(root: Path) -> Expected:
    file, image, answers = "docvqa/val_v1.0_withQT.json", "pybv0228_81.png", ["0.28", "28"]
    data = [
        {
            "questionId": 49153 + i,
            "question": f"what is the date {i}?",
            "image": f"documents/{image}",
            "answers": answers,
        }
        for i in range(2)
    ]
    dump(root / file, {"dataset_name": "SP-DocVQA", "dataset_split": "val", "data": data})
    draw(root / "docvqa" / "spdocvqa_images" / image, (120, 90))
    return Expected(2, "49153", "what is the date 0?", answers, "", image, file, "questionId")


def chartqa(root: Path) -> Expected:
    for source, count in (("human", 3), ("augmented", 2)):
        rows = [
            {"imgname": f"4169905100534{i}.png", "query": f"how many {source} {i}?", "label": str(10 + i)}
            for i in range(count)
        ]
        dump(root / "chartqa" / "test" / f"test_{source}.json", rows)
    for i in range(3):
        draw(root / "chartqa" / "test" / "png" / f"4169905100534{i}.png")
    file, other = "chartqa/test/test_human.json", "chartqa/test/test_augmented.json"
    return Expected(5, "human_0", "how many human 0?", ["10"], "human", "41699051005340.png", file, "label", other)


AI2D_RECTANGLE = ((10, 12), (40, 36))


def ai2d(root: Path) -> Expected:
    dump_text(root / "ai2d" / "ai2d_test_ids.csv", "7\n10\n11\n")  # nobody asked about the last
    for diagram in (7, 8, 10):
        name = f"{diagram}.png"
        draw(root / "ai2d" / "images" / name)
        questions = {
            question: {
                "abcLabel": letters,
                "answerTexts": ["egg", "pupa", "larva", "moth"],
                "correctAnswer": right,
                "questionId": f"{name}-{i}",
            }
            for i, (question, letters, right) in enumerate(
                ((f"What is {diagram}?", False, 2), ("What is A?", True, 1))
            )
        }
        dump(root / "ai2d" / "questions" / f"{name}.json", {"imageName": name, "questions": questions})
        text = {"T1": {"rectangle": AI2D_RECTANGLE, "replacementText": "A", "value": "larva"}}
        dump(root / "ai2d" / "annotations" / f"{name}.json", {"text": text})
    question = "What is 7? choose from: egg \t pupa \t larva \t moth"
    file, other = "ai2d/questions/7.png.json", "ai2d/ai2d_test_ids.csv"
    return Expected(4, "7.png-0", question, ["larva"], "", "7.png", file, "answerTexts", other)


# Images of the splits. 3 is scored in RefCOCO and trained on in RefCOCOg: the leak between data sets.
REFCOCO_SPLITS = {
    "refcoco": {"train": [1, 2], "val": [3], "testA": [4], "testB": [5]},
    "refcoco+": {"train": [1, 2], "val": [3], "testA": [4], "testB": [5]},
    "refcocog": {"train": [1, 3], "val": [6], "test": [7]},
}
REFCOCO_SIZE = (48, 64)


def write_refs(root: Path, name: str, split_by: str, splits: dict[str, list[int]]) -> None:
    refs, annotations = [], []
    height, width = REFCOCO_SIZE
    runs = [8 * height + 10] + [20, height - 20] * 31 + [20, (width - 40) * height + (height - 30)]
    polygon = [[8.0, 10.0, 40.0, 10.0, 40.0, 30.0, 8.0, 30.0]]
    for split, images in splits.items():
        for image in images:
            draw(root / "coco" / "train2014" / f"COCO_train2014_{image:012d}.jpg", REFCOCO_SIZE)
            sentences = [{"sent_id": 10 * image + i, "sent": f"left horse {i}"} for i in range(2)]
            refs.append({"ann_id": 100 + image, "image_id": image, "split": split, "sentences": sentences})
            mask = polygon if image != 7 else {"size": list(REFCOCO_SIZE), "counts": runs}
            thing = {"segmentation": mask, "bbox": [8.0, 10.0, 32.0, 20.0], "category_id": 19, "id": 100 + image}
            annotations.append(thing)
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=0))  # as Python 2 wrote them
    described = {"annotations": annotations, "categories": [{"id": 19, "name": "horse"}]}
    dump(root / name / "instances.json", described)


def _refcoco(name: str, split_by: str, split: str) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        write_refs(root, name, split_by, REFCOCO_SPLITS[name])
        image = REFCOCO_SPLITS[name][split][0]
        key, picture = f"{image}_{10 * image}", f"COCO_train2014_{image:012d}.jpg"
        return Expected(2, key, "left horse 0", [], "", picture, f"{name}/instances.json", "bbox")

    return write


SCREEN_BOX = (10, 12, 24, 8)  # left, top, width, height


def _screenspot(folder: str, suffix: str, images: str) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        for platform in ("mobile", "desktop", "web"):
            rows = []
            # "and" and a number at the start would mean something in names of objects
            for i, words in enumerate((f"open and close the {platform} menu", "2 open and close the menu")):
                name = f"{platform}_3b0ad239-da6b-4f6f-8f12-f674dc90ff3{i}.png"
                draw(root / folder / images / name)
                row = {"img_filename": name, "bbox": list(SCREEN_BOX), "data_type": ("text", "icon")[i]}
                rows.append({**row, "instruction": words})
            dump(root / folder / f"screenspot_{platform}{suffix}.json", rows)
        image = "mobile_3b0ad239-da6b-4f6f-8f12-f674dc90ff30.png"
        file, other = (f"{folder}/screenspot_{name}{suffix}.json" for name in ("mobile", "web"))
        question = "open and close the mobile menu"
        return Expected(6, "mobile_0", question, [], "mobile-text", image, file, "data_type", other)

    return write


def screenspot_pro(root: Path) -> Expected:
    from openpali_lab.benchmarks.screens import screenspot_pro

    left, top, width, height = SCREEN_BOX
    folder = "screenspot-pro/annotations"
    for i, application in enumerate(Path(file).stem for file in screenspot_pro.layout[:-1]):
        name, _, platform = application.rpartition("_")
        image = f"{name}_{platform[:3]}/screenshot_2024-11-28_15-16-{i:02d}.png"
        draw(root / "screenspot-pro" / "images" / image)
        row = {
            "img_filename": image,
            "bbox": [left, top, left + width, top + height],
            "instruction": f"open the menu of {name}",
            "instruction_cn": "打开菜单",
            "id": f"{application}_0",
            "platform": platform,
            "ui_type": ("icon", "text")[i % 2],
            "group": ("Dev", "CAD")[i // 13],
        }
        dump(root / folder / f"{application}.json", [row])
    key, question = "android_studio_macos_0", "open the menu of android_studio"
    image, file = "screenshot_2024-11-28_15-16-00.png", f"{folder}/android_studio_macos.json"
    return Expected(26, key, question, [], "Dev/macos-icon", image, file, "group", f"{folder}/word_macos.json")


def msrvtt_captions(root: Path) -> Expected:
    splits = {"video7010": "test", "video7011": "test", "video6513": "validate"}
    file, videos = "msrvtt/test_videodatainfo.json", [{"video_id": n, "split": s} for n, s in splits.items()]
    sentences = [{"caption": f"a man {i} {name}", "video_id": name} for name in splits for i in range(2)]
    dump(root / file, {"videos": videos, "sentences": sentences})
    for name in ("video7010", "video7011"):
        film(root / "msrvtt" / "TestVideo" / f"{name}.mp4")
    references, frames = ["a man 0 video7010", "a man 1 video7010"], tuple(range(0, FRAMES, 9))
    return Expected(2, "video7010", "", references, "en", "", file, "split", frames=frames)


def msrvtt_qa(root: Path) -> Expected:
    file = "msrvtt-qa/test_qa.json"
    rows = [
        {"answer": "couch", "id": 158581 + i, "question": f"what is it {i}?", "video_id": 7010} for i in range(2)
    ]
    dump(root / file, rows)
    film(root / "msrvtt" / "TestVideo" / "video7010.mp4")
    frames = tuple(range(0, FRAMES, 9))
    return Expected(2, "158581", "what is it 0?", ["couch"], "", "", file, "answer", frames=frames)


def vatex(root: Path) -> Expected:
    file, names = "vatex/vatex_public_test_english_v1.1.json", [f"_0hjJMcV1k{i}_000000_000010" for i in range(2)]
    dump(root / file, [{"videoID": name, "enCap": [f"{name} runs.", "He runs."]} for name in names])
    for name in names:
        film(root / "vatex" / "videos" / f"{name}.mp4")
    references, frames = [f"{names[0]} runs.", "He runs."], tuple(range(0, FRAMES, 7))
    return Expected(2, names[0], "", references, "en", "", file, "enCap", frames=frames)


def activitynet_captions(root: Path) -> Expected:
    file, video = "activitynet/captions/val_2.json", "v_uqiMw7tQ1Cc"
    sentences = ["A man bakes bread.", " He eats it."]
    dump(root / file, {video: {"timestamps": [[1.5, 5.0], [0, 1.5]], "sentences": sentences}})
    film(root / "activitynet" / "videos" / f"{video}.mp4")
    frames = (15, 45)  # from 1.5 seconds on, at 10 frames a second and a stride of 30
    return Expected(2, f"{video}_0", "", sentences[:1], "en", "", file, "timestamps", frames=frames)


def activitynet_qa(root: Path) -> Expected:
    file, other, keys = "activitynet-qa/test_q.json", "activitynet-qa/test_a.json", ("v_a_0", "v_a_1")
    questions = [
        {"video_name": "1QIUV7WYKXg", "question": f"is he outside {i}", "question_id": key}
        for i, key in enumerate(keys)
    ]
    dump(root / file, questions)
    dump(root / other, [{"answer": f"yes {key}", "question_id": key} for key in reversed(keys)])
    film(root / "activitynet" / "videos" / "v_1QIUV7WYKXg.mp4")
    return Expected(2, keys[0], "is he outside 0", ["yes v_a_0"], "", "", file, "video_name", other, frames=(0,))


def nextqa(root: Path) -> Expected:
    file, other = "nextqa/test.csv", "nextqa/add_reference_answer_test.json"
    rows = [
        [4010069381, "how do they keep warm", "wear coat", 0, "CH"],
        [4010069381, "what happened next", "look up", 1, "TN"],
        [2440175990, "how many dogs are there", "two", 6, "DC"],
    ]
    dump_csv(root / file, ["video", "question", "answer", "qid", "type"], rows)
    second = {"4010069381": {"0": "thick jacket", "1": "look at the sky"}}  # of some videos, then of all questions
    dump(root / other, second)
    videos = {"4010069381": "1164/4010069381", "2440175990": "1002/2440175990"}
    dump(root / "nextqa" / "map_vid_vidorID.json", videos)
    for place in videos.values():
        film(root / "nextqa" / "NExTVideo" / f"{place}.mp4")
    key, question, references = "4010069381_0", "how do they keep warm", ["wear coat", "thick jacket"]
    return Expected(3, key, question, references, "CH", "", file, "type", other, frames=(0,))


ANSWERING: dict[str, Callable[[Path], Expected]] = {
    "coco-captions": coco_captions,
    "xm3600": xm3600,
    "screen2words": screen2words,
    "widgetcap": widgetcap,
    "textcaps": textcaps,
    "textvqa": textvqa,
    "vqav2": vqav2,
    "okvqa": okvqa,
    "tallyqa": tallyqa,
    "st-vqa": st_vqa,
    "ocr-vqa": ocr_vqa,
    "infographicvqa": infographicvqa,
    "docvqa": docvqa,
    "chartqa": chartqa,
    "ai2d": ai2d,
    **{f"refcoco/{split}": _refcoco("refcoco", "unc", split) for split in ("val", "testA", "testB")},
    **{f"refcoco+/{split}": _refcoco("refcoco+", "unc", split) for split in ("val", "testA", "testB")},
    **{f"refcocog/{split}": _refcoco("refcocog", "umd", split) for split in ("val", "test")},
    "msrvtt-captions": msrvtt_captions,
    "msrvtt-qa": msrvtt_qa,
    "vatex": vatex,
    "activitynet-captions": activitynet_captions,
    "activitynet-qa": activitynet_qa,
    "nextqa": nextqa,
    "screenspot": _screenspot("screenspot", "", "screenspot_imgs"),
    "screenspot-v2": _screenspot("screenspot-v2", "_v2", "screenspotv2_image"),
    "screenspot-pro": screenspot_pro,
}


def _noise(rng: np.random.Generator, bright: bool) -> np.ndarray:
    return rng.integers(150 if bright else 0, 255 if bright else 100, (32, 32, 3), np.uint8)


def _noise_image(path: Path, rng: np.random.Generator, bright: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_noise(rng, bright)).save(path)


def fewshot(root: Path) -> None:
    """Eight data sets of two classes, a dark and a bright one."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    folders = (
        ("caltech101/101_ObjectCategories", "jpg"),
        ("col_hist/Kather_texture_2016_image_tiles_5000", "tif"),
        ("uc_merced/UCMerced_LandUse/Images", "tif"),
    )
    for place, suffix in folders:
        for name in ("dark", "bright"):
            for i in range(4):
                _noise_image(root / place / name / f"image_{i:04d}.{suffix}", rng, name == "bright")

    cub = root / "birds" / "CUB_200_2011"
    images, split, labels = [], [], []
    for i in range(8):
        bright = i % 2 == 1
        name = f"00{1 + bright}.Bird/Bird_{i}.jpg"
        _noise_image(cub / "images" / name, rng, bright)
        images.append(f"{i + 1} {name}\n")
        split.append(f"{i + 1} {int(i < 4)}\n")
        labels.append(f"{i + 1} {1 + bright}\n")
    for name, lines in (("images", images), ("train_test_split", split), ("image_class_labels", labels)):
        dump_text(cub / f"{name}.txt", "".join(lines))

    for kind, mat in (("train", "cars_train_annos"), ("test", "cars_test_annos_withlabels")):
        fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        rows = np.zeros((1, 4), dtype=[(field, object) for field in fields])
        for i in range(4):
            rows[0, i] = (1, 1, 9, 9, 1 + i % 2, f"{i + 1:05d}.jpg")
            _noise_image(root / "cars196" / f"cars_{kind}" / f"{i + 1:05d}.jpg", rng, i % 2 == 1)
        (root / "cars196" / "devkit").mkdir(exist_ok=True)
        savemat(root / "cars196" / "devkit" / f"{mat}.mat", {"annotations": rows})

    for kind in ("train", "test"):
        path = root / "cifar100" / "cifar-100-binary" / f"{kind}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [bytes([0, i % 2]) + _noise(rng, i % 2 == 1).transpose(2, 0, 1).tobytes() for i in range(4)]
        path.write_bytes(b"".join(records))

    for kind in ("train", "test"):
        names = [f"{name}/{name}_{kind}_{i}.jpg" for name in ("dark", "bright") for i in range(2)]
        for name in names:
            _noise_image(root / "dtd" / "images" / name, rng, name.startswith("bright"))
        dump_text(root / "dtd" / "labels" / f"{kind}1.txt", "\n".join(names) + "\n")

    for kind in ("trainval", "test"):
        lines = []
        for i in range(4):
            _noise_image(root / "pets" / "images" / f"Cat_{kind}_{i}.jpg", rng, i % 2 == 1)
            lines.append(f"Cat_{kind}_{i} {1 + i % 2} 1 1\n")
        dump_text(root / "pets" / "annotations" / f"{kind}.txt", "".join(lines))
