"""``openpali tune --fonts``: nano's reader learns one's own fonts, and letters that it lacks."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import typer
from torch import Tensor

from openpali.data.sources.base import Source
from openpali.distributed import ALONE
from openpali.progress import plain_console
from openpali.reports.fonts import font
from openpali.train.load import load_recipe
from openpali.train.recipe_file import Table, as_toml
from openpali.train.runs import folder_for
from openpali.train.start import inherit
from openpali.train.trainer import Trainer
from openpali.train.watch import Watch
from openpali.weights.bundle import open_bundle, open_tokenizer
from openpali.weights.bundle_config import BundleConfig
from openpali.weights.files import CONFIG, METRICS
from openpali.weights.find import find_model
from openpali.weights.format import ModelFolder, open_model
from openpali.weights.write import write_model
from openpali_screen import runtime
from openpali_screen.geometry import Box
from openpali_screen.language import BITS, LanguageModel, stored
from openpali_screen.networks import ReaderNetwork
from openpali_screen.pack import write_graph
from openpali_screen.parts import ELEMENTS, PAGES, READER
from openpali_screen.read.fit_language import read_language, write_language
from openpali_screen.read.font_lines import KNOWN, MINE, known, mine, words_of
from openpali_screen.read.network import Reader, reader_of
from openpali_screen.read.predict import read_lines
from openpali_screen.read.render import can_write

START = "nano"  # the bundle whose reader is tuned
_TOKENIZER = "nano"  # each recipe names one; a reader needs none
SAMPLES = 48_000
MANY = 5  # fonts, of which one is held out
_HEAD = ("head.weight", "head.bias")  # the tensors with a row for each character
_RANGES = 96  # lines that set the ranges of the graph in 8 bits
_HELD_OUT, _FONTS, _KNOWN = "held_out", "held_out_fonts", "known"
_SCORES = {_HELD_OUT: "held-out words", _FONTS: "held-out words in a held-out font", _KNOWN: "what it knew"}


def tune_fonts(
    fonts: Sequence[Path], text: Path, overrides: Sequence[str], run: Path | None, *, as_json: bool
) -> None:
    """Train nano's reader on words in fonts, and write a bundle with it and with graphs for ``openpali-screen``.

    Args:
        fonts: files of fonts; of :data:`MANY` or more, the last in the order of their names is held out.
        text: a file of words, of which a tenth is held out.
        overrides: of the recipe, as ``key=value``.
        run: its folder; None: in the cache.

    Raises:
        ValueError, OSError: a file cannot be used, a font lacks letters of the text, or the run fails.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("tune --fonts trains in one process: run it without torchrun")
    words = words_of(text)
    check_fonts(fonts, [word for side in words.values() for word in side])
    name = f"{text.stem}-fonts"
    folder, source = folder_for(name, run), open_model(_parts()[READER])
    letters = new_letters(source.config.characters, words["train"], fonts)
    write_start(source, letters, folder / "start")
    ordered = sorted((str(file.resolve()) for file in fonts), key=lambda file: Path(file).name)
    trained, apart = (ordered[:-1], ordered[-1:]) if len(ordered) >= MANY else (ordered, [])
    path = folder / "recipe.toml"
    raw = recipe_for(name, folder / "start", trained, apart, text.resolve())
    path.write_text(f"# Written by `openpali tune --fonts`, which writes it anew.\n{as_toml(raw)}", "utf-8")
    recipe = inherit(load_recipe(path, overrides), folder)
    console = plain_console(stderr=True)
    console.print(
        f"{len(words['train']):,} words of {text} to train on, {len(words['held_out']):,} held out; "
        f"letters that {START} lacks: {' '.join(letters) or 'none'}"
    )
    trainer = Trainer(recipe, folder, ALONE, open_tokenizer(recipe.model.tokenizer))
    reader = open_model(trainer.train(Watch(console=console)))
    out = folder / "bundle"
    held_out = mine(trained, text, "held_out")
    write_tuned(reader, source, [mine(trained, text, "train"), known(START, apart, "held_out")], out)
    scores = _scores(folder / METRICS)
    graphs = runtime.open_networks(out)
    report = {
        "model": str(out.resolve()),
        "letters": letters,
        "words": {side: len(some) for side, some in words.items()},
        "samples": recipe.samples,
        "cpu_seconds": round(sum(os.times()[:4])),
        **{name: {"before": before, "after": after} for name, (before, after) in scores.items()},
        "int8": share_right(graphs.reader, graphs.language, held_out),
    }
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for name, (before, after) in scores.items():
        typer.echo(f"{_SCORES[name]}: {before:.3f} right before, {after:.3f} after")
    typer.echo(f"{_SCORES[_HELD_OUT]}, by the graph in 8 bits with the language model: {report['int8']:.3f}")
    typer.echo(f"model: {out}, for `openpali read FILE --model {out}` and `openpali-screen FILE --model {out}`")


def check_fonts(fonts: Sequence[Path], words: Iterable[str]) -> None:
    """Check that fonts can be opened, and that each has all letters of the words, from left to right.

    Raises:
        ValueError, FileNotFoundError: of the first that has not; it names the font and the letters.
    """
    letters = sorted({*"".join(words)})
    if turned := [letter for letter in letters if unicodedata.bidirectional(letter) in ("R", "AL")]:
        raise ValueError(f"the reader learns no text from right to left, such as {' '.join(turned[:20])}")
    for file in fonts:
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}: give a font as --fonts")
        try:
            font(file, 24)
        except OSError as error:
            raise ValueError(f"{file} is no font with outlines ({error}): give a .ttf or .otf file") from error
        if lacking := [letter for letter in letters if not can_write(file, letter)]:
            more = f" and {len(lacking) - 20} more" if len(lacking) > 20 else ""
            raise ValueError(
                f"the font {file} has no glyph for {' '.join(lacking[:20])}{more}: leave out the words with them, "
                "or take another font"
            )


def new_letters(characters: Sequence[str], words: Iterable[str], fonts: Sequence[Path]) -> list[str]:
    """Letters of words that a reader lacks, and their other cases if all fonts can write them.

    Raises:
        ValueError: they are more than a language model has room for.
    """
    lacking = {*"".join(words)} - {*characters}
    cases = {other for letter in lacking for other in (letter.lower(), letter.upper()) if len(other) == 1}
    cases = {other for other in cases if all(can_write(file, other) for file in fonts)}
    letters = sorted((lacking | cases) - {*characters})
    if (most := (1 << BITS) - 1 - len(characters)) < len(letters):
        raise ValueError(f"the text has {len(letters)} letters that {START} lacks, and can add {most} at most")
    return letters


def write_start(source: ModelFolder, letters: Sequence[str], out: Path) -> None:
    """Write a reader with more letters than it has, which it does not know yet.

    Raises:
        ValueError: ``out`` holds one with other letters.
    """
    config = dataclasses.replace(source.config, characters=(*source.config.characters, *letters))
    if (out / CONFIG).is_file():
        if open_model(out).config != config:
            raise ValueError(f"{out.parent} holds a run with other letters: delete it, or name another with --run")
        return
    weights = with_rows(source.weights(), len(letters))
    write_model(out, weights, config, preprocess=source.preprocess, tokenizer=None, facts=source.lasting_facts)


def with_rows(weights: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The weights of a reader whose head has ``count`` more rows, which are small, after its own."""
    grown, generator = dict(weights), torch.Generator().manual_seed(0)
    for name in _HEAD:
        rows = torch.randn((count, *weights[name].shape[1:]), generator=generator) * 0.02
        grown[name] = torch.cat([weights[name], rows.to(weights[name].dtype)])
    return grown


def recipe_for(name: str, start: Path, fonts: Sequence[str], apart: Sequence[str], text: Path) -> Table:
    """The recipe that tunes the reader in the folder ``start``.

    Args:
        fonts, apart: to train on, and held out.
    """
    height, width = open_model(start).config.vision.image_size
    own, other = {"fonts": fonts, "text": str(text)}, {"model": START, "without": apart}
    held_out = {
        _HELD_OUT: (MINE, own),
        **({_FONTS: (MINE, {**own, "fonts": apart})} if apart else {}),
        _KNOWN: (KNOWN, other),
    }
    return {
        "name": name,
        "objective": "read",
        "batch": 32,
        "ema": 0.99,
        "pieces": 1,
        "placing": 0.0,
        "max_bad": 0.1,
        "model": {"init": {"": str(start)}, "tokenizer": _TOKENIZER},
        "optimizer": {
            "name": "muon",
            "lr": 1e-3,
            "lr_scale": {"vit.patch_embed": 0.1, "vit.positions": 0.1},
            "betas": [0.9, 0.98],
            "weight_decay": 0.05,
            "schedule": "constant",
            "warmup": 1_600,
            "cooldown": SAMPLES // 3,
        },
        "phases": [
            {
                "samples": SAMPLES,
                "size": f"{height}x{width}",
                "mixture": [
                    {"source": MINE, "options": {**own, "side": "train"}, "weight": 0.5},
                    {"source": KNOWN, "options": {**other, "side": "train"}, "weight": 0.5},
                ],
            }
        ],
        "evals": [
            {"name": key, "source": source, "options": {**options, "side": "held_out"}, "every": SAMPLES // 4}
            for key, (source, options) in held_out.items()
        ],
    }


def write_tuned(reader: ModelFolder, source: ModelFolder, lines: Sequence[Source], out: Path) -> None:
    """Write the bundle: nano's parts for screens and their graphs, with another reader.

    Args:
        reader, source: tuned, and as it was.
        lines: set the ranges of its graph.
    """
    shutil.rmtree(out, ignore_errors=True)
    parts = {part: folder for part, folder in _parts().items() if part in PAGES}
    for part, folder in parts.items():
        if part != READER:
            shutil.copytree(folder, out / part)
    weights = {name: tensor.bfloat16() for name, tensor in reader.weights().items()}
    facts = reader.lasting_facts.but(calibration=source.facts.calibration)
    write_model(out / READER, weights, reader.config, preprocess=reader.preprocess, tokenizer=None, facts=facts)
    arrays = {**np.load(runtime.SHIPPED / runtime.ARRAYS)}
    if language := read_language(source.folder):
        language = with_letters(language, len(source.config.characters), len(reader.config.characters))
        write_language(out / READER, language)
        arrays |= stored(language)
    tasks = {"ocr": READER, **({"vqa": ELEMENTS} if ELEMENTS in parts else {})}
    BundleConfig.model_validate({"parts": parts, "tasks": tasks}).write(out)
    about = json.loads((runtime.SHIPPED / runtime.ABOUT).read_text("utf-8"))
    about["networks"][READER]["characters"] = reader.config.characters
    for part in about["networks"]:
        if part != READER:
            shutil.copy(runtime.SHIPPED / f"{part}.onnx", out)
    module, calls = cast(Reader, open_model(out / READER).model()), list[tuple[Any, ...]]()
    network = reader_of(module)

    def record(*inputs: Any) -> Any:
        calls.append(inputs)
        return network.run(*inputs)

    for number in range(_RANGES):
        share_right(dataclasses.replace(network, run=record), None, [lines[number % len(lines)][number]])
    write_graph(READER, module, out / f"{READER}.onnx", calls, int8=True)
    np.savez_compressed(out / runtime.ARRAYS, **arrays)
    (out / runtime.ABOUT).write_text(json.dumps(about | {"name": str(out)}, ensure_ascii=False) + "\n", "utf-8")


def with_letters(language: LanguageModel, known: int, count: int) -> LanguageModel:
    """A language model of ``known`` characters with more, up to ``count``, each as likely as one of so many."""
    letters = np.arange(known + 1, count + 1)
    place = int(np.searchsorted(language.ngrams, known + 1))
    return LanguageModel(
        np.insert(language.ngrams, place, letters),
        np.insert(language.log_probs, place, np.full(len(letters), -np.log(count), np.float32)),
        np.insert(language.backoffs, place, np.zeros(len(letters), np.float32)),
    )


def share_right(reader: ReaderNetwork, language: LanguageModel | None, lines: Source) -> float:
    """The share of lines that are read right."""
    right = 0
    for number in range(len(lines)):
        example = lines[number]
        [read] = read_lines(reader, example.images[0], [Box(*example.lines[0].box)], language)
        right += read.text == example.text
    return right / len(lines)


def _parts() -> Mapping[str, Path]:
    return open_bundle(find_model(START)).parts


def _scores(metrics: Path) -> dict[str, tuple[float, float]]:
    """The share of lines read right before and after a run, by evaluation."""
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    found: dict[str, list[float]] = {}
    for row in rows:
        if "eval" in row:
            found.setdefault(row["eval"], []).append(row["scores"]["exact_match"])
    return {name: (values[0], values[-1]) for name, values in found.items()}
