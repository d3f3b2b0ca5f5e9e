"""Writes each data set of the paper, of screens and of pages, tiny, in the layout of its owners.

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
        frames: indices of the frames of the first sample; empty for images.
        absent: a file of the layout whose absence must be reported.
        field: a field whose absence must be reported, and its file.
    """

    count: int
    key: str
    question: str
    references: list[str]
    kind: str
    image: str
    absent: str
    field: tuple[str, str]
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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def dump_lines(path: Path, values: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), "utf-8")


def dump_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def dump_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def karpathy(root: Path) -> None:
    images = []
    for number, split in ((9, "train"), (42, "test"), (73, "test"), (74, "restval")):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        draw(root / "coco" / folder / name)
        sentences = [
            {"tokens": ["a", "horse"], "raw": raw, "imgid": number, "sentid": 10 * number + i}
            for i, raw in enumerate((f"A horse {number}.", "The animal in a field."))
        ]
        images.append(
            {
                "filepath": folder,
                "sentids": [s["sentid"] for s in sentences],
                "filename": name,
                "imgid": number,
                "split": split,
                "sentences": sentences,
                "cocoid": number,
            }
        )
    dump(root / "coco" / "dataset_coco.json", {"images": images, "dataset": "coco"})


def coco_captions(root: Path) -> Expected:
    karpathy(root)
    return Expected(
        2,
        "42",
        "",
        ["A horse 42.", "The animal in a field."],
        "en",
        "COCO_val2014_000000000042.jpg",
        "coco/dataset_coco.json",
        ("coco/dataset_coco.json", "raw"),
    )


def coco_35l(root: Path) -> Expected:
    karpathy(root)
    rows = [
        {
            "image_id": f"{image}_{i}",
            "caption_tokenized": f"A horse {i} .",
            "translation_tokenized": f"{lang} {image} {i} .",
            "backtranslation_tokenized": "A horse .",
            "src_lang": "en",
            "trg_lang": lang,
        }
        for image in (42, 73)
        for i in range(2)
        for lang in ("de", "ja")
    ]
    dump_lines(root / "coco35l" / "coco_mt_dev.jsonl", rows)
    return Expected(
        6,
        "42_de",
        "",
        ["de 42 0 .", "de 42 1 ."],
        "de",
        "COCO_val2014_000000000042.jpg",
        "coco35l/coco_mt_dev.jsonl",
        ("coco35l/coco_mt_dev.jsonl", "translation_tokenized"),
    )


def nocaps(root: Path) -> Expected:
    images = [
        {
            "id": i,
            "open_images_id": f"0013ea208702090{i}",
            "file_name": f"0013ea208702090{i}.jpg",
            "width": 64,
            "height": 48,
            "coco_url": "",
            "domain": domain,
        }
        for i, domain in enumerate(("near-domain", "out-domain", "near-domain", "out-domain"))
    ]
    for image in images:
        draw(root / "nocaps" / "validation" / str(image["file_name"]))
    annotations = [
        {"image_id": i, "id": 10 * i + j, "caption": f"A bus {i} {j} here."} for i in range(4) for j in range(2)
    ]
    dump(
        root / "nocaps" / "nocaps_val_4500_captions.json",
        {"licenses": [], "info": {}, "images": images, "annotations": annotations},
    )
    return Expected(
        4,
        "0",
        "",
        ["A bus 0 0 here.", "A bus 0 1 here."],
        "near-domain",
        "0013ea2087020900.jpg",
        "nocaps/nocaps_val_4500_captions.json",
        ("nocaps/nocaps_val_4500_captions.json", "domain"),
    )


_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
XM_LANGUAGES = _CODES.split()


def xm3600(root: Path) -> Expected:
    rows: list[object] = []
    for i in range(3):
        key = f"000411001ff7dd4{i}"
        draw(root / "xm3600" / "images" / f"{key}.jpg")
        captions = {
            lang: {
                "caption": [f"{lang} {i}", f"{lang} {i} again"],
                "caption/tokenized": [f"{lang} {i}", f"{lang} {i} again"],
                "caption/tokenized/lowercase": [f"{lang} {i}", f"{lang} {i} again"],
            }
            for lang in XM_LANGUAGES
        }
        rows.append({"image/key": key, "image/locale": "ar", **captions})
    dump_lines(root / "xm3600" / "captions.jsonl", rows)
    return Expected(
        108,
        "000411001ff7dd40_ar",
        "",
        ["ar 0", "ar 0 again"],
        "ar",
        "000411001ff7dd40.jpg",
        "xm3600/captions.jsonl",
        ("xm3600/captions.jsonl", "caption"),
    )


def screen2words(root: Path) -> Expected:
    rows = [[screen, f"page {i} of {screen}"] for screen in (11, 12, 13) for i in range(2)]
    dump_csv(root / "screen2words" / "screen_summaries.csv", ["screenId", "summary"], rows)
    dump_text(root / "screen2words" / "split" / "test_screens.txt", "12\n13\n")
    for screen in (11, 12, 13):
        draw(root / "rico" / "combined" / f"{screen}.jpg", (96, 54))
    return Expected(
        2,
        "12",
        "",
        ["page 0 of 12", "page 1 of 12"],
        "en",
        "12.jpg",
        "screen2words/split/test_screens.txt",
        ("screen2words/screen_summaries.csv", "summary"),
    )


WIDGET_BOUNDS = (160, 1280, 1120, 1920)  # left, top, right, bottom in RICO's 1440 x 2560


def widgetcap(root: Path) -> Expected:
    rows = [[11, "0.0", "never|asked"], [12, "0.1.0", "go to menu|open menu|"], [12, "0.0", "search|find"]]
    dump_csv(root / "widget-caption" / "widget_captions.csv", ["screenId", "nodeId", "captions"], rows)
    dump_text(root / "widget-caption" / "split" / "test.txt", "12\n")
    leaf = {"bounds": list(WIDGET_BOUNDS), "class": "android.widget.Button"}
    other = {"bounds": [0, 0, 720, 640], "class": "android.widget.TextView"}
    tree = {"bounds": [0, 0, 1440, 2560], "children": [other, {"bounds": [0, 0, 1440, 2560], "children": [leaf]}]}
    for screen in (11, 12):
        draw(root / "rico" / "combined" / f"{screen}.jpg", (960, 540))
        dump(root / "rico" / "combined" / f"{screen}.json", {"activity": {"root": tree}})
    return Expected(
        2,
        "12_0.1.0",
        "",
        ["go to menu", "open menu"],
        "en",
        "12.jpg",
        "widget-caption/widget_captions.csv",
        ("rico/combined/12.json", "bounds"),
    )


def textcaps(root: Path) -> Expected:
    data = [
        {
            "image_id": image,
            "image_name": image,
            "image_path": f"train/{image}.jpg",
            "image_classes": ["Book"],
            "set_name": "val",
            "caption_id": i,
            "caption_str": f"A book {i} called {image}.",
            "reference_strs": ["A book."],
        }
        for i, image in enumerate(("0054c91397f2fe05", "0054c91397f2fe05", "003a8ae2ef43b901"))
    ]
    dump(root / "textcaps" / "TextCaps_0.1_val.json", {"dataset_name": "textcaps", "data": data})
    for image in ("0054c91397f2fe05", "003a8ae2ef43b901"):
        draw(root / "textvqa" / "train_images" / f"{image}.jpg")
    return Expected(
        2,
        "0054c91397f2fe05",
        "",
        ["A book 0 called 0054c91397f2fe05.", "A book 1 called 0054c91397f2fe05."],
        "en",
        "0054c91397f2fe05.jpg",
        "textcaps/TextCaps_0.1_val.json",
        ("textcaps/TextCaps_0.1_val.json", "caption_str"),
    )


TEN = ["nokia"] * 8 + ["nokia phone", "toshiba"]


def textvqa(root: Path) -> Expected:
    data = [
        {
            "question": f"what is the brand {i}?",
            "image_id": "003a8ae2ef43b901",
            "image_classes": ["Phone"],
            "image_width": 64,
            "image_height": 48,
            "question_tokens": ["what"],
            "question_id": 34602 + i,
            "set_name": "val",
            "answers": TEN,
        }
        for i in range(3)
    ]
    dump(root / "textvqa" / "TextVQA_0.5.1_val.json", {"dataset_name": "textvqa", "data": data})
    draw(root / "textvqa" / "train_images" / "003a8ae2ef43b901.jpg")
    return Expected(
        3,
        "34602",
        "what is the brand 0?",
        TEN,
        "",
        "003a8ae2ef43b901.jpg",
        "textvqa/TextVQA_0.5.1_val.json",
        ("textvqa/TextVQA_0.5.1_val.json", "answers"),
    )


def _vqa(root: Path, questions: str, annotations: str) -> None:
    rows = [{"image_id": 42, "question": f"how many {i}?", "question_id": 42000 + i} for i in range(3)]
    dump(root / questions, {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "questions": rows})
    answered = [
        {
            "question_type": "how many",
            "multiple_choice_answer": "2",
            "answers": [
                {
                    "answer": "2" if j < 7 else "two",
                    "answer_confidence": "yes",
                    "answer_id": j + 1,
                    "raw_answer": "2",
                }
                for j in range(10)
            ],
            "image_id": 42,
            "answer_type": "number" if i < 2 else "other",
            "question_id": 42000 + i,
        }
        for i in reversed(range(3))  # in another order than the questions
    ]
    dump(root / annotations, {"info": {}, "annotations": answered})
    draw(root / "coco" / "val2014" / "COCO_val2014_000000000042.jpg")


def vqav2(root: Path) -> Expected:
    names = ("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json")
    _vqa(root, *names)
    return Expected(
        3,
        "42000",
        "how many 0?",
        ["2"] * 7 + ["two"] * 3,
        "number",
        "COCO_val2014_000000000042.jpg",
        names[1],
        (names[1], "answer_type"),
    )


def okvqa(root: Path) -> Expected:
    names = ("okvqa/OpenEnded_mscoco_val2014_questions.json", "okvqa/mscoco_val2014_annotations.json")
    _vqa(root, *names)
    return Expected(
        3,
        "42000",
        "how many 0?",
        ["2"] * 7 + ["two"] * 3,
        "",
        "COCO_val2014_000000000042.jpg",
        names[0],
        (names[0], "question"),
    )


def tallyqa(root: Path) -> Expected:
    images = ("VG_100K_2/2410408.jpg", "VG_100K/1.jpg", "val2014/COCO_val2014_000000000042.jpg")
    rows = [
        {
            "answer": 2 + i,
            "data_source": "imported_genome",
            "image": name,
            "image_id": 100 + i,
            "issimple": i != 1,
            "question": f"how many dogs {i}?",
            "question_id": 30 + i,
        }
        for i, name in enumerate(images)
    ]
    dump(root / "tallyqa" / "test.json", rows)
    for name in images[:2]:
        draw(root / "visual_genome" / name)
    draw(root / "coco" / images[2])
    return Expected(
        3,
        "100_30",
        "how many dogs 0?",
        ["2"],
        "simple",
        "2410408.jpg",
        "tallyqa/test.json",
        ("tallyqa/test.json", "issimple"),
    )


def st_vqa(root: Path) -> Expected:
    data = []
    for i in range(40):
        name = f"coco-text/COCO_train2014_{i:012d}.jpg"
        draw(root / "stvqa" / "train_images" / name)
        data.append(
            {
                "question": f"what is on sign {i}?",
                "answers": ["stop", "stop sign"],
                "question_id": i,
                "file_path": name,
                "file_name": name.split("/")[1],
                "dataset": "coco-text",
                "set_name": "train",
            }
        )
    dump(root / "stvqa" / "train_task_3.json", {"dataset_name": "st-vqa", "data": data})
    held_out = [
        i
        for i in range(40)
        if int.from_bytes(hashlib.sha256(str(data[i]["file_path"]).encode()).digest()[:8], "big") % 10 == 0
    ]
    first = held_out[0]
    return Expected(
        len(held_out),
        str(first),
        f"what is on sign {first}?",
        ["stop", "stop sign"],
        "",
        f"COCO_train2014_{first:012d}.jpg",
        "stvqa/train_task_3.json",
        ("stvqa/train_task_3.json", "file_path"),
    )


def ocr_vqa(root: Path) -> Expected:
    books = {
        str(asin): {
            "imageURL": f"http://ecx.images-amazon.com/images/I/51{asin}.jpg",
            "questions": ["Who wrote it?", "Is it a novel?"],
            "answers": [f"Author {asin}", "no"],
            "title": "Mensa",
            "authorName": f"Author {asin}",
            "genre": "Crafts",
            "split": split,
        }
        for asin, split in ((761183272, 1), (1449421, 3), (1449422, 3))
    }
    dump(root / "ocrvqa" / "dataset.json", books)
    for asin in books:
        draw(root / "ocrvqa" / "images" / f"{asin}.jpg")
    return Expected(
        4,
        "1449421_0",
        "Who wrote it?",
        ["Author 1449421"],
        "",
        "1449421.jpg",
        "ocrvqa/dataset.json",
        ("ocrvqa/dataset.json", "imageURL"),
    )


def infographicvqa(root: Path) -> Expected:
    data = [
        {
            "questionId": 98313 + i,
            "question": f"which colours {i}?",
            "image_local_name": "10002.jpeg",
            "image_url": "http://example.org/10002.jpeg",
            "ocr_output_file": "10002.json",
            "answers": ["red, blue", "both"],
            "answer_type": ["multi-span"],
            "data_split": "val",
        }
        for i in range(2)
    ]
    name = "infographicvqa/infographicsVQA_val_v1.0_withQT.json"
    dump(root / name, {"dataset_name": "infographicsVQA", "dataset_split": "val", "data": data})
    draw(root / "infographicvqa" / "infographicsvqa_images" / "10002.jpeg", (160, 40))
    return Expected(
        2,
        "98313",
        "which colours 0?",
        ["red, blue", "blue, red", "both"],
        "",
        "10002.jpeg",
        name,
        (name, "image_local_name"),
    )


def docvqa(root: Path) -> Expected:
    data = [
        {
            "questionId": 49153 + i,
            "question": f"what is the date {i}?",
            "question_types": ["handwritten"],
            "image": "documents/pybv0228_81.png",
            "docId": 14465,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": ["0.28", "28"],
            "data_split": "val",
        }
        for i in range(2)
    ]
    dump(
        root / "docvqa" / "val_v1.0_withQT.json",
        {"dataset_name": "SP-DocVQA", "dataset_split": "val", "data": data},
    )
    draw(root / "docvqa" / "spdocvqa_images" / "pybv0228_81.png", (120, 90))
    return Expected(
        2,
        "49153",
        "what is the date 0?",
        ["0.28", "28"],
        "",
        "pybv0228_81.png",
        "docvqa/val_v1.0_withQT.json",
        ("docvqa/val_v1.0_withQT.json", "questionId"),
    )


def chartqa(root: Path) -> Expected:
    for source, count in (("human", 3), ("augmented", 2)):
        rows = [
            {"imgname": f"4169905100534{i}.png", "query": f"how many {source} {i}?", "label": str(10 + i)}
            for i in range(count)
        ]
        dump(root / "chartqa" / "test" / f"test_{source}.json", rows)
    for i in range(3):
        draw(root / "chartqa" / "test" / "png" / f"4169905100534{i}.png")
    return Expected(
        5,
        "human_0",
        "how many human 0?",
        ["10"],
        "human",
        "41699051005340.png",
        "chartqa/test/test_augmented.json",
        ("chartqa/test/test_human.json", "label"),
    )


AI2D_RECTANGLE = ((10, 12), (40, 36))


def ai2d(root: Path) -> Expected:
    dump_text(root / "ai2d" / "ai2d_test_ids.csv", "7\n10\n11\n")  # nobody asked about the last
    for diagram in (7, 8, 10):
        name = f"{diagram}.png"
        draw(root / "ai2d" / "images" / name)
        questions = {
            f"What is {diagram}?": {
                "abcLabel": False,
                "answerTexts": ["egg", "pupa", "larva", "moth"],
                "correctAnswer": 2,
                "questionId": f"{name}-0",
            },
            "What is A?": {
                "abcLabel": True,
                "answerTexts": ["egg", "pupa", "larva", "moth"],
                "correctAnswer": 1,
                "questionId": f"{name}-1",
            },
        }
        dump(root / "ai2d" / "questions" / f"{name}.json", {"imageName": name, "questions": questions})
        text = {"T1": {"id": "T1", "rectangle": AI2D_RECTANGLE, "replacementText": "A", "value": "larva"}}
        dump(root / "ai2d" / "annotations" / f"{name}.json", {"text": text, "arrows": {}, "blobs": {}})
    return Expected(
        4,
        "7.png-0",
        "What is 7? choose from: egg \t pupa \t larva \t moth",
        ["larva"],
        "",
        "7.png",
        "ai2d/ai2d_test_ids.csv",
        ("ai2d/questions/7.png.json", "answerTexts"),
    )


# Images of the splits. 3 is scored in RefCOCO and trained on in RefCOCOg: the leak between data sets.
REFCOCO_SPLITS = {
    "refcoco": {"train": [1, 2], "val": [3], "testA": [4], "testB": [5]},
    "refcoco+": {"train": [1, 2], "val": [3], "testA": [4], "testB": [5]},
    "refcocog": {"train": [1, 3], "val": [6], "test": [7]},
}
REFCOCO_SIZE = (48, 64)


def write_refs(root: Path, name: str, split_by: str, splits: dict[str, list[int]]) -> None:
    refs, annotations = [], []
    for split, images in splits.items():
        for image in images:
            file_name = f"COCO_train2014_{image:012d}.jpg"
            draw(root / "coco" / "train2014" / file_name, REFCOCO_SIZE)
            refs.append(
                {
                    "sent_ids": [10 * image, 10 * image + 1],
                    "file_name": file_name.replace(".jpg", f"_{image}.jpg"),
                    "ann_id": 100 + image,
                    "ref_id": image,
                    "image_id": image,
                    "split": split,
                    "sentences": [
                        {
                            "tokens": ["left", "horse"],
                            "raw": f"LEFT horse {i}",
                            "sent_id": 10 * image + i,
                            "sent": f"left horse {i}",
                        }
                        for i in range(2)
                    ],
                    "category_id": 19,
                }
            )
            polygon = [[8.0, 10.0, 40.0, 10.0, 40.0, 30.0, 8.0, 30.0]]
            height, width = REFCOCO_SIZE
            runs = [8 * height + 10] + [20, height - 20] * 31 + [20, (width - 40) * height + (height - 30)]
            mask = polygon if image != 7 else {"size": list(REFCOCO_SIZE), "counts": runs}
            annotations.append(
                {
                    "segmentation": mask,
                    "area": 640,
                    "iscrowd": 0,
                    "image_id": image,
                    "bbox": [8.0, 10.0, 32.0, 20.0],
                    "category_id": 19,
                    "id": 100 + image,
                }
            )
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=0))  # as Python 2 wrote them
    dump(
        root / name / "instances.json",
        {
            "info": {},
            "images": [],
            "licenses": [],
            "annotations": annotations,
            "categories": [{"supercategory": "animal", "id": 19, "name": "horse"}],
        },
    )


SCREEN_BOX = (10, 12, 24, 8)  # left, top, width, height


def _screenspot(folder: str, suffix: str, images: str) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        sources = {"mobile": ("ios", "android"), "desktop": ("macos", "windows"), "web": ("shop", "gitlab")}
        for platform, systems in sources.items():
            rows = []
            for i, system in enumerate(systems):
                name = f"{platform}_3b0ad239-da6b-4f6f-8f12-f674dc90ff3{i}.png"
                draw(root / folder / images / name)
                row = {
                    "img_filename": name,
                    "bbox": list(SCREEN_BOX),
                    # "and" and a number at the start would mean something in names of objects
                    "instruction": f"open and close the {platform} menu" if i == 0 else "2 open and close the menu",
                    "data_type": ("text", "icon")[i],
                    "data_source": system,
                }
                rows.append(row)
            dump(root / folder / f"screenspot_{platform}{suffix}.json", rows)
        return Expected(
            6,
            "mobile_0",
            "open and close the mobile menu",
            [],
            "mobile-text",
            "mobile_3b0ad239-da6b-4f6f-8f12-f674dc90ff30.png",
            f"{folder}/screenspot_web{suffix}.json",
            (f"{folder}/screenspot_mobile{suffix}.json", "data_type"),
        )

    return write


def screenspot_pro(root: Path) -> Expected:
    from openpali_lab.benchmarks.screens import APPLICATIONS

    left, top, width, height = SCREEN_BOX
    for i, application in enumerate(APPLICATIONS):
        name, _, platform = application.rpartition("_")
        image = f"{name}_{platform[:3]}/screenshot_2024-11-28_15-16-{i:02d}.png"
        draw(root / "screenspot-pro" / "images" / image)
        row = {
            "img_filename": image,
            "bbox": [left, top, left + width, top + height],
            "instruction": f"open the menu of {name}",
            "instruction_cn": "打开菜单",
            "id": f"{application}_0",
            "application": name,
            "platform": platform,
            "img_size": [64, 48],
            "ui_type": ("icon", "text")[i % 2],
            "group": ("Dev", "CAD")[i // 13],
        }
        dump(root / "screenspot-pro" / "annotations" / f"{application}.json", [row])
    return Expected(
        26,
        "android_studio_macos_0",
        "open the menu of android_studio",
        [],
        "Dev/macos-icon",
        "screenshot_2024-11-28_15-16-00.png",
        "screenspot-pro/annotations/word_macos.json",
        ("screenspot-pro/annotations/android_studio_macos.json", "group"),
    )


def screenqa(root: Path) -> Expected:
    rows = [
        {"image_id": 5, "question": "How many exercises are there?", "ground_truth": ["12", "12 exercises"]},
        {"image_id": 5, "question": "What is the price?", "ground_truth": ["<no answer>"]},
        {"image_id": 10, "question": "Which tab is selected?", "ground_truth": ['"Learn" tab', "Learn"]},
    ]
    dump(root / "screen_qa" / "short_answers" / "test.json", rows)
    for screen in (5, 10):
        draw(root / "rico" / "combined" / f"{screen}.jpg", (96, 54))
    return Expected(
        3,
        "5_0",
        "How many exercises are there?",
        ["12", "12 exercises"],
        "",
        "5.jpg",
        "screen_qa/short_answers/test.json",
        ("screen_qa/short_answers/test.json", "ground_truth"),
    )


def _refcoco(name: str, split_by: str, split: str) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        write_refs(root, name, split_by, REFCOCO_SPLITS[name])
        image = REFCOCO_SPLITS[name][split][0]
        return Expected(
            2,
            f"{image}_{10 * image}",
            "left horse 0",
            [],
            "",
            f"COCO_train2014_{image:012d}.jpg",
            f"{name}/instances.json",
            (f"{name}/instances.json", "bbox"),
        )

    return write


def msrvtt_captions(root: Path) -> Expected:
    videos = [
        {
            "category": 9,
            "url": "",
            "video_id": f"video{n}",
            "start time": 1.0,
            "end time": 2.0,
            "split": split,
            "id": n,
        }
        for n, split in ((7010, "test"), (7011, "test"), (6513, "validate"))
    ]
    sentences = [
        {"caption": f"a man {i} {video['video_id']}", "video_id": video["video_id"], "sen_id": i}
        for video in videos
        for i in range(2)
    ]
    dump(root / "msrvtt" / "test_videodatainfo.json", {"info": {}, "videos": videos, "sentences": sentences})
    for number in (7010, 7011):
        film(root / "msrvtt" / "TestVideo" / f"video{number}.mp4")
    return Expected(
        2,
        "video7010",
        "",
        ["a man 0 video7010", "a man 1 video7010"],
        "en",
        "",
        "msrvtt/test_videodatainfo.json",
        ("msrvtt/test_videodatainfo.json", "split"),
        tuple(range(0, FRAMES, 9)),
    )


def msrvtt_qa(root: Path) -> Expected:
    rows = [
        {"answer": "couch", "category_id": 14, "id": 158581 + i, "question": f"what is it {i}?", "video_id": 7010}
        for i in range(2)
    ]
    dump(root / "msrvtt-qa" / "test_qa.json", rows)
    film(root / "msrvtt" / "TestVideo" / "video7010.mp4")
    return Expected(
        2,
        "158581",
        "what is it 0?",
        ["couch"],
        "",
        "",
        "msrvtt-qa/test_qa.json",
        ("msrvtt-qa/test_qa.json", "answer"),
        tuple(range(0, FRAMES, 9)),
    )


def vatex(root: Path) -> Expected:
    rows = [
        {
            "videoID": f"_0hjJMcV1k{i}_000000_000010",
            "enCap": [f"A man {i} runs.", "He runs."],
            "chCap": ["一个男人"],
        }
        for i in range(2)
    ]
    dump(root / "vatex" / "vatex_public_test_english_v1.1.json", rows)
    for row in rows:
        film(root / "vatex" / "videos" / f"{row['videoID']}.mp4")
    return Expected(
        2,
        "_0hjJMcV1k0_000000_000010",
        "",
        ["A man 0 runs.", "He runs."],
        "en",
        "",
        "vatex/vatex_public_test_english_v1.1.json",
        ("vatex/vatex_public_test_english_v1.1.json", "enCap"),
        tuple(range(0, FRAMES, 7)),
    )


def activitynet_captions(root: Path) -> Expected:
    annotated = {
        "v_uqiMw7tQ1Cc": {
            "duration": 5.0,
            "timestamps": [[1.5, 5.0], [0, 1.5]],
            "sentences": ["A man bakes bread.", " He eats it."],
        }
    }
    dump(root / "activitynet" / "captions" / "val_2.json", annotated)
    film(root / "activitynet" / "videos" / "v_uqiMw7tQ1Cc.mp4")
    return Expected(
        2,
        "v_uqiMw7tQ1Cc_0",
        "",
        ["A man bakes bread."],
        "en",
        "",
        "activitynet/captions/val_2.json",
        ("activitynet/captions/val_2.json", "timestamps"),
        (15, 45),  # from 1.5 seconds on, at 10 frames a second and a stride of 30
    )


def activitynet_qa(root: Path) -> Expected:
    questions = [
        {"video_name": "1QIUV7WYKXg", "question": f"is he outside {i}", "question_id": f"v_1QIUV7WYKXg_{i}"}
        for i in range(2)
    ]
    answers = [{"answer": f"yes {i}", "type": 3, "question_id": f"v_1QIUV7WYKXg_{i}"} for i in reversed(range(2))]
    dump(root / "activitynet-qa" / "test_q.json", questions)
    dump(root / "activitynet-qa" / "test_a.json", answers)
    film(root / "activitynet" / "videos" / "v_1QIUV7WYKXg.mp4")
    return Expected(
        2,
        "v_1QIUV7WYKXg_0",
        "is he outside 0",
        ["yes 0"],
        "",
        "",
        "activitynet-qa/test_a.json",
        ("activitynet-qa/test_q.json", "video_name"),
        (0,),
    )


def msvd_qa(root: Path) -> Expected:
    rows = [
        {"answer": "onion", "id": 35151 + i, "question": f"what is cut {i}?", "video_id": 1301} for i in range(2)
    ]
    dump(root / "msvd-qa" / "test_qa.json", rows)
    dump_text(root / "msvd-qa" / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\nmv89psg6zh4_33_46 vid1301\n")
    film(root / "msvd-qa" / "video" / "mv89psg6zh4_33_46.avi")
    return Expected(
        2,
        "35151",
        "what is cut 0?",
        ["onion"],
        "",
        "",
        "msvd-qa/youtube_mapping.txt",
        ("msvd-qa/test_qa.json", "video_id"),
        (0, 26),
    )


def nextqa(root: Path) -> Expected:
    names = "video,frame_count,width,height,question,answer,qid,type"
    rows = [
        [4010069381, 369, 640, 480, "how do they keep warm", "wear coat", 0, "CH"],
        [4010069381, 369, 640, 480, "what happened next", "look up", 1, "TN"],
        [2440175990, 900, 640, 480, "how many dogs are there", "two", 6, "DC"],
    ]
    dump_csv(root / "nextqa" / "test.csv", names.split(","), rows)
    second = {"4010069381": {"0": "thick jacket", "1": "look at the sky"}}  # of some videos, then of all questions
    dump(root / "nextqa" / "add_reference_answer_test.json", second)
    videos = {"4010069381": "1164/4010069381", "2440175990": "1002/2440175990"}
    dump(root / "nextqa" / "map_vid_vidorID.json", videos)
    for place in videos.values():
        film(root / "nextqa" / "NExTVideo" / f"{place}.mp4")
    return Expected(
        3,
        "4010069381_0",
        "how do they keep warm",
        ["wear coat", "thick jacket"],
        "CH",
        "",
        "nextqa/add_reference_answer_test.json",
        ("nextqa/test.csv", "type"),
        (0,),
    )


ANSWERING: dict[str, Callable[[Path], Expected]] = {
    "coco-captions": coco_captions,
    "coco-35l": coco_35l,
    "nocaps": nocaps,
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
    "refcoco/val": _refcoco("refcoco", "unc", "val"),
    "refcoco/testA": _refcoco("refcoco", "unc", "testA"),
    "refcoco/testB": _refcoco("refcoco", "unc", "testB"),
    "refcoco+/val": _refcoco("refcoco+", "unc", "val"),
    "refcoco+/testA": _refcoco("refcoco+", "unc", "testA"),
    "refcoco+/testB": _refcoco("refcoco+", "unc", "testB"),
    "refcocog/val": _refcoco("refcocog", "umd", "val"),
    "refcocog/test": _refcoco("refcocog", "umd", "test"),
    "msrvtt-captions": msrvtt_captions,
    "msrvtt-qa": msrvtt_qa,
    "vatex": vatex,
    "activitynet-captions": activitynet_captions,
    "activitynet-qa": activitynet_qa,
    "msvd-qa": msvd_qa,
    "nextqa": nextqa,
    "screenspot": _screenspot("screenspot", "", "screenspot_imgs"),
    "screenspot-v2": _screenspot("screenspot-v2", "_v2", "screenspotv2_image"),
    "screenspot-pro": screenspot_pro,
    "screenqa": screenqa,
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


def imagenet(root: Path) -> None:
    """Two classes, as Kaggle lays them out."""
    rng = np.random.default_rng(0)
    base = root / "imagenet"
    dump_text(
        base / "LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    )
    rows = []
    for i in range(4):
        code = ("n01440764", "n01443537")[i % 2]
        name = f"ILSVRC2012_val_{i + 1:08d}"
        rows.append([name, f"{code} 1 1 9 9 "])
        _noise_image(base / "ILSVRC" / "Data" / "CLS-LOC" / "val" / f"{name}.JPEG", rng, i % 2 == 1)
        for j in range(3):
            _noise_image(
                base / "ILSVRC" / "Data" / "CLS-LOC" / "train" / code / f"{code}_{3 * i + j}.JPEG", rng, i % 2 == 1
            )
    dump_csv(base / "LOC_val_solution.csv", ["ImageId", "PredictionString"], rows)
