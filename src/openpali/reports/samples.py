"""A look at a model while it trains: what it answers to the samples that come next."""

from __future__ import annotations

from pathlib import Path

from openpali.data.pipeline.encode import SequenceEncoder
from openpali.data.pipeline.stream import Stream
from openpali.infer.generate import Decoding, generate
from openpali.model.pali import Pali
from openpali.reports.drawing import draw_prediction, sheet
from openpali.rng import generator
from openpali.tasks.example import Size

COUNT = 12  # pictures on a sheet, four in a row
SIDE = 240  # pixels of each


def draw_samples(model: Pali, stream: Stream, counter: int, path: Path) -> None:
    """Answer the next :data:`COUNT` samples of a stream greedily, and draw the answers on their pictures.

    Samples without a picture, bad ones and those of another resolution are left out. The model keeps its mode.
    """
    encoder = stream.encoder
    assert isinstance(encoder, SequenceEncoder)
    tiles = []
    for at in range(counter, min(counter + COUNT, len(stream))):
        phase, draw = stream.place(at)
        entry = phase.entries[draw.source]
        size = (phase.preprocess.height, phase.preprocess.width)
        if size != model.vit.config.image_size:  # of the next phase, which the model has not entered yet
            break
        try:
            example = entry.source[draw.example]
            arrays = encoder.encode(example, entry.task, phase.preprocess, generator(stream.seed, 2, at, 0))
        except (ValueError, OSError):  # training will quarantine it
            continue
        if not example.images:
            continue
        batch = encoder.collate([arrays])
        batch = {key: value.to(model.project.weight.device) for key, value in batch.items()}
        decoding = Decoding(max_tokens=encoder.max_target)
        [[best]] = generate(model, batch.get("images"), batch["prompt"], batch.get("frames"), decoding)
        factor = max(1, SIDE // max(example.images[0].shape))
        image = example.images[0].repeat(factor, axis=0).repeat(factor, axis=1)
        answer = entry.task.parse(encoder.tokenizer.decode(best.ids), Size(*image.shape[:2]))
        tiles.append(draw_prediction(image, answer))
    if tiles:
        sheet(tiles).save(path)
