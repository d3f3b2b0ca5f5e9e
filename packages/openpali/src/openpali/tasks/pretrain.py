"""The unimodal stages: image-text pairs for SigLIP, and UL2's denoising of text (PaLI-3 section 3.1, stage 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from openpali.metrics.scores import Scores
from openpali.tasks.base import Need, Sample, Task, require
from openpali.tasks.caption import choose_caption
from openpali.tasks.example import Example
from openpali.tasks.scoring import Answered
from openpali.text.tokenizer import MODES, Tokenizer
from openpali.text.ul2 import denoise


@dataclass(frozen=True)
class Contrastive(Task):
    """An image and a caption of it, for the sigmoid loss; the caption is the target, and there is no prompt.

    Attributes:
        languages: those that training draws from; none means all that an example has.
    """

    name: ClassVar[str] = "contrastive"
    prompt: ClassVar[str] = "{text}"
    takes: ClassVar[str] = "caption"
    metric: ClassVar[str] = ""

    languages: Sequence[str] = ()

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, captions = choose_caption(example, self.languages, rng)
        return Sample("", caption, captions, kind=lang)

    @classmethod
    def score(cls, rows: Sequence[Answered]) -> Scores:
        """Raises ``ValueError``: embeddings are compared, and there are no answers."""
        raise ValueError(
            "task contrastive has no answers to score: use a retrieval benchmark, such as nano/retrieval"
        )


@dataclass(frozen=True)
class Denoise(Task):
    """Restore corrupted text: the example's ``text``, or else one of its captions.

    Attributes:
        tokenizer: corruption works on token ids.
        max_inputs, max_targets: limits in tokens, without EOS; longer texts are cut to a window.
    """

    name: ClassVar[str] = "denoise"
    prompt: ClassVar[str] = "{text}"
    takes: ClassVar[str] = "corrupted text, with its mode and sentinels"
    needs: ClassVar[frozenset[Need]] = frozenset({"tokenizer", "max_inputs", "max_targets"})
    max_target_tokens: ClassVar[int] = 128

    tokenizer: Tokenizer = field(repr=False)
    max_inputs: int = 128
    max_targets: int = 128

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        text = example.text.strip() or (choose_caption(example, (), rng)[1].strip() if example.captions else "")
        tokenizer = self.tokenizer
        inputs, targets = denoise(
            tokenizer.encode(require(text, example, "text")),
            rng,
            sentinels=tokenizer.sentinel_ids,
            modes={mode: tokenizer.mode_id(mode) for mode in MODES},
            max_inputs=self.max_inputs,
            max_targets=self.max_targets,
        )
        target = tokenizer.decode(targets)
        mode = tokenizer.decode(inputs[:1])
        return Sample(tokenizer.decode(inputs), target, (target,), kind=mode, ids=(inputs, targets))
