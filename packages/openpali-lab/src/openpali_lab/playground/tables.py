"""What the page has to know of a model, as JSON: tokenizer, prompts, numbers, names; each from where it is used."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from openpali.data.media.images import Preprocess
from openpali.infer import generate
from openpali.infer.components import SQUASHED
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import CONFIDENT, Pipeline, calibration_for
from openpali.infer.routing import OUT_OF_DISTRIBUTION, SETTLES
from openpali.metrics import calibration
from openpali.metrics.calibration import Calibration
from openpali.serve.service import OFFERED, Served
from openpali.tasks.detect import NOTHING, Detect
from openpali.tasks.dialects import Dialect
from openpali.tasks.ocr import Ocr
from openpali.tasks.refseg import RefSeg
from openpali.tasks.registry import FREE_TEXT, TASKS
from openpali.text.masks import CODES_PER_MASK
from openpali.text.tokenizer import MASK_TOKENS, Tokenizer
from openpali.weights.files import MASKS, SIGLIP
from openpali_screen import order
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.components import LINE
from openpali_screen.find import predict as find
from openpali_screen.find.network import Finder
from openpali_screen.language import BITS, ORDER, LanguageModel
from openpali_screen.parts import FINDER, READER
from openpali_screen.read import ctc
from openpali_screen.read import predict as read
from openpali_screen.read.network import Reader
from openpali_screen.reader import LEAST, LEAST_ALONE
from openpali_screen.views import CELL, MARGIN, PATCH, WIDTHS

Json = dict[str, Any]
_CTC = ("WEIGHT", "BONUS", "SURE", "CUT", "BEAMS", "FAR", "CHOICES", "LEAST", "BLANK")
_ORDER = ("ALLEY", "GAP", "BREAK", "CELL", "ALIKE", "ALIGNED")
_spm: Any = sentencepiece_model_pb2  # generated code, opaque to mypy


def routes_of(pali: Pali) -> dict[str, list[str]]:
    """The parts that answer each task: all that read, else the first. A part that takes no prompts reads lines."""
    found = {}
    for name in OFFERED:
        with suppress(ValueError):  # it lacks the part
            parts = [part for part in pali.parts_for(name) if part != SIGLIP]  # the page does not detect by patches
            found[name] = parts if name == Ocr.name else parts[:1]
    return found


def parts_of(pali: Pali) -> list[str]:
    """The parts that the page runs, of those that a model has."""
    readers = (FINDER, READER) if {FINDER, READER} <= pali.parts.keys() else ()
    masks = (MASKS,) if MASKS in pali.parts else ()
    answering = (part for parts in routes_of(pali).values() for part in parts)
    return [*dict.fromkeys((*answering, *masks, *readers))]


def tables_of(pali: Pali) -> Json:
    """All tables of a model; the graphs are beside them."""
    written: dict[bytes, int] = {}  # tokenizers, by their bytes: parts share them
    parts = {part: _DESCRIBE.get(part, _answering)(pali, part, written) for part in parts_of(pali)}
    routes = routes_of(pali)
    return {
        "model": _model(pali, routes, [*parts]),
        "parts": parts,
        "tokenizers": [tokenizer_table(Tokenizer(proto)) for proto in written],
        "routes": routes,
        "names": list(pali.names),
        **text_tables(),
        **dialect_tables(pali.dialect),
        "numbers": numbers(),
    }


def _model(pali: Pali, routes: Mapping[str, Sequence[str]], own: Sequence[str]) -> Json:
    """What the page asks a server for: see ``v1/models``."""
    described = {
        "tasks": [task for task in Served(pali.name, pali).tasks if routes[task["name"]]],
        "languages": list(pali.languages),
        "about": pali.about,
        "max_images": 1,
        "takes_prompts": True,
        "reads_pages": READER in own,
        "embeds": False,
    }
    return {"id": pali.name, "openpali": described}


def tokenizer_table(tokenizer: Tokenizer) -> Json:
    """Pieces, scores and types of a vocabulary that keeps texts as they are.

    Raises:
        ValueError: it normalises texts, or is no unigram model.
    """
    model = _spm.ModelProto.FromString(tokenizer.proto)
    spec = model.normalizer_spec
    plain = not spec.precompiled_charsmap and not spec.remove_extra_whitespaces and spec.add_dummy_prefix
    if model.trainer_spec.model_type != _spm.TrainerSpec.UNIGRAM or not plain:
        raise ValueError("the page knows unigram vocabularies that keep texts as they are, and this is another one")
    return {
        "pieces": [piece.piece for piece in model.pieces],
        "scores": [piece.score for piece in model.pieces],
        "types": [piece.type for piece in model.pieces],
        "unknown": model.trainer_spec.unk_surface,
        "eos": tokenizer.eos_id,
        "unk": tokenizer.unk_id,
    }


def text_tables() -> Json:
    """What Python and a browser see differently: spaces, and letters whatever their case."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) != "Cs"]
    return {
        "spaces": "".join(c for c in characters if c.isspace()),
        "folds": {c: c.casefold() for c in characters if c.casefold() != c},
    }


def dialect_tables(dialect: Dialect) -> Json:
    """Prompts, what separates names, and tokens of masks."""
    own = ((family.form or family.name, family.template_in(dialect)) for family in TASKS.values())
    templates = [[form, template.pattern] for form, template in own if template]
    forms = dict(templates)
    tasks = {
        name: {
            "prompt": forms.get(family.form or name, ""),
            "most": family.max_target_tokens,
        }
        for name, family in TASKS.items()
    }
    masks = dialect.masks
    return {
        "templates": templates,
        "tasks": tasks,
        "free_text": FREE_TEXT,
        "nothing": NOTHING,
        "joiner": dialect.names_joiner,
        "objects_joiner": dialect.objects_joiner,
        "masks": {
            "name": masks.name,
            "digits": masks.digits,
            "codes": CODES_PER_MASK,
            "most": MASK_TOKENS,
        },
    }


def numbers() -> Json:
    """The numbers of the algorithms, by the module that has them."""
    return {
        "routing": {
            "sure": SETTLES,
            "squashed": SQUASHED,
            "line": LINE,
            "least": LEAST,
            "least_alone": LEAST_ALONE,
            "out_of_distribution": OUT_OF_DISTRIBUTION,
            "confident": CONFIDENT,
        },
        "calibration": {"largest": calibration.LARGEST, "tiny": calibration.TINY},
        "generation": {
            "repeats": Decoding().max_repeats,
            "longest": generate._LONGEST_LOOP,
            "shortest": generate._SHORTEST_REPETITION,
        },
        "pages": {
            "cell": CELL,
            "patch": PATCH,
            "margin": MARGIN,
            "widths": WIDTHS,
            "gap": find._GAP,
            "same": find._SAME,
            "least": find._LEAST,
            "reach": find._REACH,
            "surest": find._SUREST,
            "likely": find._TEXT,
            "ends": find._ENDS,
            "sure": read._CLEAR,
            "light": read._LIGHT,
            "space": read._SPACE,
        },
        "ctc": {name.lower(): getattr(ctc, name) for name in _CTC},
        "order": {name.lower(): getattr(order, f"_{name}") for name in _ORDER},
    }


def _answering(pali: Pali, part: str, written: dict[bytes, int]) -> Json:
    pipeline = pali.pipeline(part)
    preprocess = pipeline.preprocess
    assert isinstance(preprocess, Preprocess), "or there would be no graphs"
    if preprocess.filter != Preprocess.filter:
        raise ValueError(
            f"part {part!r} resizes images by {preprocess.filter}, and the page by {Preprocess.filter} alone: "
            "its answers would differ"
        )
    tokenizer = pipeline.tokenizer
    return {
        "tokenizer": written.setdefault(tokenizer.proto, len(written)),
        "first": pipeline.model.first,
        "most": pipeline.max_prompt,
        "longest": pipeline.max_target,
        "preprocess": {
            "height": preprocess.height,
            "width": preprocess.width,
            "policy": preprocess.policy,
        },
        "ood": {"size": len(ood.mean), "centres": len(ood.centres)} if (ood := pipeline.ood) else None,
        "boxes": {name: _boxes(pipeline, name) for name in (Detect.name, RefSeg.name)},
        "calibration": {
            name: calibrated(found)
            for name in TASKS
            if (found := calibration_for(name, pipeline.calibrations)) is not None
        },
    }


def _boxes(pipeline: Pipeline, name: str) -> Json:
    task = pipeline.task(name, warn=False)
    assert isinstance(task, Detect | RefSeg)
    return {"bins": task.bins, "style": task.style}


def calibrated(found: Calibration) -> list[float]:
    """Temperature and offset."""
    return [found.temperature, found.offset]


def _finder(pali: Pali, part: str, _: dict[bytes, int]) -> Json:
    finder = pali.load(part)[1]
    assert isinstance(finder, Finder)
    tile = finder.vit.config.image_size
    return {"tile": list(tile), "shared": [find._shared(side) for side in tile]}


def _reader(pali: Pali, part: str, _: dict[bytes, int]) -> Json:
    stored, reader = pali.load(part)
    assert isinstance(reader, Reader)
    sure = stored.facts.calibration.get(Ocr.name)
    return {
        "size": list(reader.vit.config.image_size),
        "steps": reader.config.steps,
        "characters": list(reader.config.characters),
        "calibration": calibrated(sure) if sure else None,
        "language": language_of(reader_of_bundle(pali).networks.language),
    }


def language_of(found: LanguageModel | None) -> Json | None:
    """How a language model is laid out."""
    return None if found is None else {"ngrams": len(found.ngrams), "order": ORDER, "bits": BITS}


_DESCRIBE: Mapping[str, Callable[[Pali, str, dict[bytes, int]], Json]] = {
    MASKS: lambda pali, part, written: {},
    FINDER: _finder,
    READER: _reader,
}
