"""Crossmodal-3600: captioning and retrieval in 36 languages, with images from where each is spoken."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openpali.eval.benchmark import Advance, AnswerBenchmark, Embedded, EncoderBenchmark, Encoders, SeenSamples
from openpali.infer.batches import chunked
from openpali.infer.generate import Decoding
from openpali.tasks.caption import Caption
from openpali.tasks.example import Example
from openpali_lab.benchmarks.files import Fields, Folder, Listing, listing, with_image
from openpali_lab.benchmarks.retrieval import retrieve
from openpali_lab.benchmarks.scoring import mean_of_slices

CAPTIONS = "xm3600/captions.jsonl"
HOME = "https://google.github.io/crossmodal-3600"
_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
LANGUAGES = tuple(_CODES.split())
LAYOUT = (CAPTIONS, "xm3600/images/000411001ff7dd4f.jpg, ...")
BATCH = 64  # images in memory


def _folder(root: Path) -> Folder:
    return Folder(root, "Crossmodal-3600", HOME)


def _captions(entry: Fields, lang: str) -> list[str]:
    return entry.entry(lang).texts("caption")


def _image_file(entry: Fields) -> str:
    return f"xm3600/images/{entry.text('image/key')}.jpg"


def open_captions(root: Path) -> Listing:
    """The 3,600 images in each language; all languages of one image follow each other."""
    folder = _folder(root)
    makers = [
        with_image(
            Example(f"{entry.text('image/key')}_{lang}", captions={lang: _captions(entry, lang)}, lang=lang),
            folder,
            _image_file(entry),
        )
        for entry in folder.rows(CAPTIONS)
        for lang in LANGUAGES
    ]
    return listing(makers, folder, f"captions in {CAPTIONS}")


def run_retrieval(model: Encoders, root: Path, limit: int | None, advance: Advance) -> Embedded:
    """Recall@1, @5 and @10 in both directions, per language and as mean over languages.

    Every caption is a query; from image to text, any caption of the image is right (``any``), or only its first
    is (``first/...``). The captions of one language compete with each other.
    """
    folder = _folder(root)
    every = folder.rows(CAPTIONS)
    entries, seen = every[:limit], SeenSamples()
    total = len(entries) + len(LANGUAGES)
    chunks = []
    for some in chunked(entries, BATCH):
        chunks.append(model.embed_image([seen.image(folder.image(_image_file(entry))) for entry in some]))
        advance(sum(map(len, chunks)), total)
    images = np.concatenate(chunks)
    captions = {lang: [_captions(entry, lang) for entry in entries] for lang in LANGUAGES}
    seen.texts(captions)
    scores = retrieve(images, captions, model.embed_text, advance=lambda n: advance(len(entries) + n, total))
    prompt = {"text": "the caption alone", "languages": list(LANGUAGES)}
    n, of = len(entries), len(every)
    return Embedded(scores=scores, n=n, of=of, candidates=True, data=seen.hash, prompt=prompt)


BENCHMARKS = (
    AnswerBenchmark(
        name="xm3600",
        title="XM3600 captions",
        split="all, 36 languages",
        resolution=812,
        layout=LAYOUT,
        home=HOME,
        note="The score is the mean over languages. Captions are compared as written, without the owners' "
        "tokenisation: in a language without spaces, a phrase is one word.",
        open=open_captions,
        task="caption",
        decoding=Decoding(max_tokens=32),
        scorer=mean_of_slices(Caption.score),
    ),
    EncoderBenchmark(
        name="xm3600-retrieval",
        title="XM3600 retrieval",
        split="all, 36 languages",
        metric="img2txt_recall@1",
        resolution=224,
        layout=LAYOUT,
        home=HOME,
        note="Mean over languages; `first/...` counts only the first caption of an image as right.",
        run=run_retrieval,
    ),
)
