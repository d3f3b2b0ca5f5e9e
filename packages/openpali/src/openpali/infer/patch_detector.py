"""Detection without a decoder: every patch of an image encoder says what is there, and how far it reaches.

The encoder is a SigLIP that was trained with ``dense`` and ``sides`` (:mod:`openpali.model.regions`). Its text
tower embeds the names that are asked for, so that any text may be one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openpali.infer.pipeline import EmbeddingPipeline, Floats, ImageLike
from openpali.metrics.boxes import Detection, box_iou, distinct
from openpali.metrics.calibration import Calibration
from openpali.tasks.detect import alike
from openpali.tasks.example import Box, Object

LEAST = 0.3  # probability of a name at a patch of a thing that is found
_SAME = 0.5  # boxes of two patches with this IoU are averaged
_APART = 0.1  # largest IoU of two boxes of a name that are kept: patches at the rim of a thing give poor boxes


class PatchDetector:
    """Finds things by name.

    Args:
        embedding: of a SigLIP with sides.
        known: names of other objects. A model of softmax needs them as negatives: with "cat" alone, the patch of a
            dog is called a cat.
        calibration: of the confidence in a box; None: there is none.
    """

    def __init__(
        self,
        embedding: EmbeddingPipeline,
        known: Sequence[str] = (),
        calibration: Calibration | None = None,
    ) -> None:
        if embedding.model.sides is None:
            raise ValueError(
                "the image encoder of this model does not tell where things end: train one with dense = true and "
                "sides = 1.0, or ask the decoder"
            )
        self.embedding, self.known, self.calibration = embedding, known, calibration
        self._texts: dict[str, Floats] = {}  # embeddings of what was asked last, and of the known names

    def detect(self, image: ImageLike, names: Sequence[str]) -> list[Object]:
        """All instances of the names in an image, the most probable first."""
        calibration = self.calibration
        return [
            Object(name, Box(*box), confidence=calibration.of(score) if calibration else None)
            for name, box, score in self.find(image, names)
        ]

    def find(self, image: ImageLike, names: Sequence[str]) -> list[Detection]:
        """The same with the probability of each name, which is not calibrated."""
        if not names:
            return []
        embeddings_ND, boxes_N4 = self.embedding.patches(image)
        names = [*dict.fromkeys(names)]
        found: list[Detection] = []
        for name, probability_N in zip(names, self._probabilities(embeddings_ND, names).T, strict=True):
            [here] = (probability_N >= LEAST).nonzero()
            here = here[np.argsort(-probability_N[here], kind="stable")]
            for number in here[distinct(boxes_N4[here], _APART)]:
                # the mean of what its patches say is nearer than the box of one
                alike_M = here[box_iou(boxes_N4[number : number + 1], boxes_N4[here])[0] >= _SAME]
                box = np.average(boxes_N4[alike_M], axis=0, weights=probability_N[alike_M])
                found.append(Detection(name, box.tolist(), float(probability_N[number])))
        return sorted(found, key=lambda thing: -thing.score)

    def _probabilities(self, embeddings_ND: Floats, names: Sequence[str]) -> Floats:
        """Of each name at each patch: ``[N, K]``."""
        others = [text for text in self.known if not any(alike(text, name) for name in names)]
        asked = [*names, *others, ""] if self.embedding.softmax else names
        texts = self._texts
        if missing := [text for text in dict.fromkeys(asked) if text not in texts]:
            # of other names only the last are kept: a server is asked for any
            kept = {text: row for text, row in texts.items() if text in (*self.known, "", *asked)}
            texts = kept | dict(zip(missing, self.embedding.embed_text(missing), strict=True))
            self._texts = texts
        rows_KD = np.stack([texts[text] for text in asked])
        return self.embedding.probabilities(embeddings_ND, rows_KD)[:, : len(names)]
