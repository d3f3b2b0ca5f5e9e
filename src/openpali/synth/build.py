"""Data sets made on this machine out of ordinary software packages: ``build("stamps")`` and friends.

Each builder fetches its packages (:mod:`openpali.synth.packages`), writes plain files (WebDataset shards, JSONL,
``.npz`` arrays, fonts, word lists) together with licences and attribution, and never pickles anything. The same
packages give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openpali.home import home
from openpali.synth.packages import debian, pypi

Builder = Callable[[Path], None]

STAMP_SIDE = 192  # longest side of a stored stamp or clip art, pixels
SAMPLES_PER_SHARD = 256


def data_folder(name: str) -> Path:
    """Where the built data set ``name`` lies; raises ``FileNotFoundError`` if it has not been built."""
    folder = home() / "data" / name
    if not folder.is_dir():
        raise FileNotFoundError(f"the data set {name} is not built: run `openpali data build {name}`")
    return folder


def build(name: str, *, force: bool = False, builders: Mapping[str, Builder] | None = None) -> Path:
    """Builds the data set ``name`` (a key of ``builders``, by default :data:`BUILDERS`) and returns its folder.

    A set that exists is returned at once unless ``force``. The folder appears complete or not at all. Raises
    ``ValueError`` for an unknown name, ``FileNotFoundError`` where a package cannot be fetched.
    """
    builders = BUILDERS if builders is None else builders
    if name not in builders:
        raise ValueError(f"no data set is called {name}; there are {', '.join(builders)}")
    folder = home() / "data" / name
    if folder.is_dir() and not force:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
        (Path(work) / "new").mkdir()
        builders[name](Path(work) / "new")
        if folder.is_dir():
            folder.rename(Path(work) / "old")
        (Path(work) / "new").rename(folder)
    return folder


def write_shards(folder: Path, stem: str, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Writes ``(key, {extension: content})`` samples as WebDataset shards ``{stem}-00000.tar``, ..."""
    shard, count = None, 0
    try:
        for key, parts in samples:
            if count % SAMPLES_PER_SHARD == 0:
                if shard is not None:
                    shard.close()
                shard = tarfile.open(folder / f"{stem}-{count // SAMPLES_PER_SHARD:05d}.tar", "w")  # noqa: SIM115
            assert shard is not None
            for extension, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{extension}")  # no time, no owner: the same bytes each time
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
            count += 1
    finally:
        if shard is not None:
            shard.close()


# ---- stamps: Tux Paint's pictures with captions in about 70 languages, fonts and words to write with

STAMPS_PACKAGE = "tuxpaint-stamps-default"
WORD_LISTS = {
    "en": ("wamerican", "american-english"),
    "de": ("wngerman", "ngerman"),
    "fr": ("wfrench", "french"),
    "es": ("wspanish", "spanish"),
    "it": ("witalian", "italian"),
}
# ISO 15924 script -> (package, font files). The Latin ones also cover Greek and Cyrillic.
FONTS = {
    "Latn": (
        ("fonts-dejavu-core", ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold")),
        ("fonts-dejavu-mono", ("DejaVuSansMono", "DejaVuSansMono-Bold")),
        ("fonts-dejavu-extra", ("DejaVuSans-Oblique", "DejaVuSansCondensed", "DejaVuSerif-Italic")),
        (
            "fonts-liberation",
            tuple(
                f"Liberation{face}-{weight}" for face in ("Sans", "Serif", "Mono") for weight in ("Regular", "Bold")
            ),
        ),
        ("fonts-noto-core", ("NotoSans-Regular", "NotoSans-Bold", "NotoSerif-Regular", "NotoSerif-Bold")),
    ),
    "Arab": (("fonts-noto-core", ("NotoSansArabic-Regular", "NotoNaskhArabic-Regular")),),
    "Armn": (("fonts-noto-core", ("NotoSansArmenian-Regular", "NotoSerifArmenian-Regular")),),
    "Deva": (("fonts-noto-core", ("NotoSansDevanagari-Regular", "NotoSerifDevanagari-Regular")),),
    "Ethi": (("fonts-noto-core", ("NotoSansEthiopic-Regular", "NotoSerifEthiopic-Regular")),),
    "Geor": (("fonts-noto-core", ("NotoSansGeorgian-Regular", "NotoSerifGeorgian-Regular")),),
    "Gujr": (("fonts-noto-core", ("NotoSansGujarati-Regular", "NotoSerifGujarati-Regular")),),
    "Hani": (("fonts-noto-cjk", ("NotoSansCJK-Regular", "NotoSerifCJK-Regular")),),
    "Hebr": (("fonts-noto-core", ("NotoSansHebrew-Regular", "NotoSerifHebrew-Regular")),),
    "Khmr": (("fonts-noto-core", ("NotoSansKhmer-Regular", "NotoSerifKhmer-Regular")),),
    "Mlym": (("fonts-noto-core", ("NotoSansMalayalam-Regular", "NotoSerifMalayalam-Regular")),),
    "Taml": (("fonts-noto-core", ("NotoSansTamil-Regular", "NotoSerifTamil-Regular")),),
    "Thai": (("fonts-noto-core", ("NotoSansThai-Regular", "NotoSerifThai-Regular")),),
}


def _build_stamps(folder: Path) -> None:
    root = debian(STAMPS_PACKAGE) / "usr/share/tuxpaint/stamps"
    write_shards(folder, "stamps", _stamps(root))
    packages = [STAMPS_PACKAGE]
    for script, sources in FONTS.items():
        target = folder / "fonts" / script
        target.mkdir(parents=True)
        for package, names in sources:
            packages.append(package)
            found = {p.stem: p for p in (debian(package) / "usr/share/fonts").rglob("*.[to]t[fc]")}
            for name in names:
                shutil.copy(found[name], target / found[name].name)
    for language, (package, file) in WORD_LISTS.items():
        packages.append(package)
        lines = (debian(package) / "usr/share/dict" / file).read_text("utf-8").splitlines()
        words = sorted({w for w in lines if w.isalpha() and w.islower() and len(w) <= 12})
        (folder / f"words-{language}.txt").write_text("\n".join(words) + "\n", "utf-8")
    _write_licences(folder, packages)


def _stamps(root: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Every stamp that is a PNG with a caption, in the order of its path; mirror images of others are left out."""
    for path in sorted(root.rglob("*.png")):
        text, settings = path.with_suffix(".txt"), path.with_suffix(".dat")
        if not text.exists():
            continue
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
        picture.thumbnail((STAMP_SIDE, STAMP_SIDE), Image.Resampling.LANCZOS)
        file = path.relative_to(root)
        folders = [part for part in file.parts[:-1] if part != "cartoon"]
        known = {
            "captions": read_captions(text.read_text("utf-8")),
            "category": "/".join(folders[:2]),
            "photo": "cartoon" not in file.parts and looks_photographed(np.asarray(picture)),
            "mirror": not settings.exists() or "nomirror" not in settings.read_text("utf-8").lower(),
            "file": file.as_posix(),
        }
        yield "-".join(file.with_suffix("").parts), {"png": png(picture), "json": _json(known)}


def read_captions(text: str) -> dict[str, str]:
    """Captions by language out of a stamp's text file: the first line is English, the others ``de.utf8=...``.

    Texts are cleaned by :func:`clean_caption`; empty ones are left out.
    """
    first, *others = text.splitlines()
    captions = {"en": clean_caption(first)}
    for line in others:
        found = re.fullmatch(r"\s*([A-Za-z_@]+)\.utf8=(.*)", line)
        if found and (caption := clean_caption(found[2])):
            captions[language_code(found[1])] = caption
    return captions


def clean_caption(text: str) -> str:
    """``text`` in NFC form, single spaces, no full stop or exclamation mark (of any script) at its end."""
    return re.sub(r"[\s.。．।|!！]+$", "", " ".join(unicodedata.normalize("NFC", text).split()))


def language_code(locale: str) -> str:
    """BCP 47 tag of a POSIX locale: ``pt_BR`` -> ``pt-BR``, ``sr@latin`` -> ``sr-Latn``, ``zh_CN`` -> ``zh``."""
    special = {"zh_CN": "zh", "zh_TW": "zh-Hant", "sr@latin": "sr-Latn", "ca@valencia": "ca-valencia"}
    return special.get(locale, locale.replace("_", "-"))


def looks_photographed(rgba: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Whether a picture ``[H, W, 4]`` has a photograph's many colours and few flat places.

    A heuristic: at least 5 % of the opaque pixels have a colour (5 bits a channel) of their own, and fewer than a
    fifth of neighbouring pixels are equally bright.
    """
    opaque = rgba[..., 3] > 200
    if opaque.sum() < 64:
        return False
    colours = np.unique((rgba[opaque][:, :3] >> 3).astype(np.int32) @ [1024, 32, 1])
    steps = np.abs(np.diff(rgba[..., :3].mean(axis=-1), axis=1))[opaque[:, 1:] & opaque[:, :-1]]
    return bool(len(colours) / opaque.sum() >= 0.05 and (steps < 1).mean() < 0.2)


# ---- clip art: patterns and symbols that mean none of our names, to put behind things

CLIPART_PACKAGE = "openclipart-png"
CLIPART = {  # kind -> (folders under openclipart/png, how many at most)
    "pattern": (("special/patterns",), 96),
    "symbol": (("decorations", "signs_and_symbols", "computer/buttons", "shapes"), 320),
}


def _build_clipart(folder: Path) -> None:
    root = debian(CLIPART_PACKAGE) / "usr/share/openclipart/png"
    for kind, (sources, most) in CLIPART.items():
        files = sorted(path for source in sources for path in (root / source).glob("*.png"))
        chosen = files[:: max(1, len(files) // most)][:most]
        write_shards(folder, kind, _clipart(root, chosen))
    _write_licences(folder, [CLIPART_PACKAGE])


def _clipart(root: Path, files: Iterable[Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    for path in files:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
        picture.thumbnail((STAMP_SIDE, STAMP_SIDE), Image.Resampling.LANCZOS)
        if min(picture.size) < 24 or np.asarray(picture)[..., 3].mean() < 32:
            continue  # nearly nothing to see
        file = path.relative_to(root)
        key = "-".join(file.with_suffix("").parts).replace(".", "_")
        yield key, {"png": png(picture), "json": _json({"file": file.as_posix()})}


# ---- easy-VQA and Fashion-MNIST: other people's benchmarks


def _build_easy_vqa(folder: Path) -> None:
    data = pypi("easy-vqa") / "easy_vqa/data"
    for split in ("train", "test"):
        shutil.copytree(data / split / "images", folder / "images" / split)
        questions = json.loads((data / split / "questions.json").read_text("utf-8"))
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as out:
            for number, (question, answer, image) in enumerate(questions):
                sample = {
                    "key": f"easy-vqa-{split}-{number}",
                    "images": [f"images/{split}/{image}.png"],
                    "question": question,
                    "answers": [answer],
                    "question_kind": _easy_vqa_kind(question, answer),
                    "lang": "en",
                }
                out.write(json.dumps(sample) + "\n")
    metadata = next(data.parent.parent.glob("*.dist-info/METADATA")).read_text("utf-8")
    (folder / "ATTRIBUTION.md").write_text(
        "easy-VQA by Victor Zhou, the Python package `easy-vqa`, MIT licence.\n\n" + metadata, "utf-8"
    )


def _easy_vqa_kind(question: str, answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes/no"
    return "colour" if "color" in question else "shape"


FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def _build_fashion_mnist(folder: Path) -> None:
    data = debian("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = _idx(data / f"{stem}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        labels = _idx(data / f"{stem}-labels-idx1-ubyte.gz", header=8)
        np.savez_compressed(folder / f"{split}.npz", images=images, labels=labels)
    (folder / "classes.txt").write_text("\n".join(FASHION_CLASSES) + "\n", "utf-8")
    _write_licences(folder, ["dataset-fashion-mnist"])


def _idx(path: Path, header: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


# ---- wordnet: what NExT-QA's score compares words by


def _build_wordnet(folder: Path) -> None:
    for path in sorted((debian("wordnet-base") / "usr/share/wordnet").iterdir()):
        if path.name.startswith(("data.", "index.")) or path.suffix == ".exc":
            shutil.copy(path, folder / path.name)
    _write_licences(folder, ["wordnet-base"])


BUILDERS: dict[str, Builder] = {
    "stamps": _build_stamps,
    "clipart": _build_clipart,
    "easy-vqa": _build_easy_vqa,
    "fashion-mnist": _build_fashion_mnist,
    "wordnet": _build_wordnet,
}


# ---- small helpers


def png(picture: Image.Image) -> bytes:
    """``picture`` as the bytes of a PNG file."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()


def _write_licences(folder: Path, packages: Iterable[str]) -> None:
    """``LICENCE`` with each package's own copyright file, and ``ATTRIBUTION.md`` that says where all came from."""
    names = list(dict.fromkeys(packages))
    texts = [
        f"==== {name}\n\n{(debian(name) / 'usr/share/doc' / name / 'copyright').read_text('utf-8', 'replace')}"
        for name in names
    ]
    (folder / "LICENCE").write_text("\n\n".join(texts), "utf-8")
    lines = [f"- `{name}` (Debian package)" for name in names]
    (folder / "ATTRIBUTION.md").write_text(
        "What is in this folder was made from these packages; LICENCE holds the terms of each.\n\n"
        + "\n".join(lines)
        + "\n",
        "utf-8",
    )
