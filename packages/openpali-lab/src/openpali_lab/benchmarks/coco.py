"""COCO captions (Karpathy's split), and COCO-35L: its captions in 35 languages."""

from __future__ import annotations

from pathlib import Path

from openpali.eval.benchmark import AnswerBenchmark
from openpali.infer.generate import Decoding
from openpali.tasks.caption import Caption
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image
from openpali_lab.benchmarks.scoring import mean_of_slices

SPLIT = "coco/dataset_coco.json"
HOME = "https://cs.stanford.edu/people/karpathy/deepimagesent (caption_datasets.zip) and https://cocodataset.org"
IMAGES = (
    "coco/train2014/COCO_train2014_000000000009.jpg, ...",
    "coco/val2014/COCO_val2014_000000000042.jpg, ...",
)

TRANSLATIONS = "coco35l/coco_mt_dev.jsonl"
HOME_35L = "https://google.github.io/crossmodal-3600"
_CODES = "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt ro ru sv sw te th tr uk vi zh"
LANGUAGES = tuple(_CODES.split())


def image_file(entry: Fields) -> str:
    """File of the image of an entry of Karpathy's list."""
    return f"coco/{entry.text('filepath')}/{entry.text('filename')}"


def open_captions(root: Path) -> Listing:
    """The 5,000 images of the test split, with about five captions each."""
    folder = Folder(root, "COCO captions", HOME)
    makers = []
    for entry in folder.json(SPLIT).entries("images"):
        if entry.text("split") == "test":
            captions = [sentence.text("raw") for sentence in entry.entries("sentences")]
            makers.append(
                with_image(Example(entry.text("cocoid"), captions={"en": captions}), folder, image_file(entry))
            )
    return listing(makers, folder, f"images of split 'test' in {SPLIT}")


def open_35l(root: Path) -> Listing:
    """The dev images in each language; all languages of one image follow each other."""
    folder = Folder(root, "COCO-35L", HOME_35L)
    captions: dict[tuple[str, str], list[str]] = {}
    for entry in folder.rows(TRANSLATIONS):
        image, lang = entry.text("image_id").split("_")[0], entry.text("trg_lang")
        captions.setdefault((image, lang), []).append(entry.text("translation_tokenized"))
        if lang == "de":  # every translation repeats the English original: take it once
            captions.setdefault((image, "en"), []).append(entry.text("caption_tokenized"))
    names = {entry.text("cocoid"): image_file(entry) for entry in folder.json(SPLIT).entries("images")}
    makers = []
    for image in dict.fromkeys(image for image, _ in captions):
        if image not in names:
            raise ValueError(f"{TRANSLATIONS} has an image {image} that {SPLIT} lacks; the originals are at {HOME}")
        for lang in LANGUAGES:
            if found := captions.get((image, lang)):
                example = Example(f"{image}_{lang}", captions={lang: found}, lang=lang)
                makers.append(with_image(example, folder, names[image]))
    return listing(makers, folder, f"captions in {TRANSLATIONS}")


BENCHMARKS = (
    AnswerBenchmark(
        name="coco-captions",
        title="COCO captions",
        split="Karpathy test",
        paper={"cider": 145.9},
        resolution=812,
        layout=(SPLIT, *IMAGES),
        home=HOME,
        open=open_captions,
        task="caption",
        decoding=Decoding(max_tokens=32, beams=2),
    ),
    AnswerBenchmark(
        name="coco-35l",
        title="COCO-35L captions",
        split="dev, 35 languages",
        resolution=812,
        layout=(TRANSLATIONS, SPLIT, *IMAGES),
        home=HOME_35L,
        note="The score is the mean over languages.",
        open=open_35l,
        task="caption",
        decoding=Decoding(max_tokens=32),
        scorer=mean_of_slices(Caption.score),
    ),
)
