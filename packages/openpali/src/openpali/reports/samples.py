"""Answers of a model while it trains, drawn on their images."""

from __future__ import annotations

from pathlib import Path

from openpali.data.media.images import Preprocess
from openpali.data.pipeline.encode import SequenceEncoder
from openpali.data.pipeline.stream import Stream
from openpali.infer.generate import Decoding
from openpali.infer.pipeline import Pipeline
from openpali.model.vision_language import VisionLanguageModel
from openpali.reports.drawing import draw_prediction, enlarge, sheet
from openpali.rng import generator

COUNT = 12  # images on a sheet, four in a row
SIDE = 288  # pixels of each, about


def draw_samples(model: VisionLanguageModel, stream: Stream, counter: int, path: Path) -> None:
    """Answer the next :data:`COUNT` samples of a stream greedily, and draw the answers on their images.

    After the end of the stream, these are the samples that its last phase would have drawn. Skips samples without
    an image and bad ones, and stops where the stream changes resolution. The model keeps its mode.
    """
    encoder = stream.encoder
    assert isinstance(encoder, SequenceEncoder)
    decoding = Decoding(max_tokens=encoder.max_target)
    tiles = []
    for at in range(counter, counter + COUNT):
        phase, draw = stream.place(at)
        entry, preprocess = phase.entries[draw.source], phase.preprocess
        size = (preprocess.height, preprocess.width) if isinstance(preprocess, Preprocess) else None
        if size and model.vit.config.image_size != size:  # a later phase's
            break
        pipeline = Pipeline(model, encoder.tokenizer, preprocess, max_prompt=encoder.max_prompt)
        assert entry.task is not None
        try:
            example = entry.source[draw.example]
            if not example.images:
                continue
            prompt = entry.task.write(example, generator(stream.seed, 2, at, 0)).prompt
            [found] = pipeline.predict([example.images], [prompt], task=entry.task, decoding=decoding)
        except (ValueError, OSError):  # training will quarantine it
            continue
        factor = max(1, SIDE // max(example.images[0].shape))
        tiles.append(draw_prediction(enlarge(example.images[0], factor), found.answer.scaled(factor)))
    if tiles:
        sheet(tiles).save(path)
