"""The unimodal stages: image-text pairs for SigLIP, and UL2's denoising of text (PaLI-3 section 3.1, stage 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from openpali.tasks.base import Sample, Task, require, require_text
from openpali.tasks.caption import choose_caption
from openpali.tasks.example import Example
from openpali.text.tokenizer import MODES, Tokenizer
from openpali.text.ul2 import denoise


@dataclass(frozen=True)
class Contrastive(Task):
    """A picture and a caption of it, for the sigmoid loss; the caption is the target, and there is no prompt.

    Attributes:
        languages: those that training draws from; none means all that an example has.
    """

    name: ClassVar[str] = "contrastive"
    metric: ClassVar[str] = "retrieval"

    languages: Sequence[str] = ()

    def write(self, example: Example, rng: np.random.Generator) -> Sample:
        lang, caption, captions = choose_caption(example, self.languages, rng)
        return Sample("", caption, captions, kind=lang)

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the text to compare pictures with."""
        return require_text(text, self, "a text")


@dataclass(frozen=True)
class Denoise(Task):
    """Restore corrupted text: the example's ``text``, or else one of its captions.

    Attributes:
        tokenizer: corruption works on token ids.
        max_inputs, max_targets: the limits in tokens, without end tokens; longer texts are cut to a window.
    """

    name: ClassVar[str] = "denoise"
    metric: ClassVar[str] = "perplexity"
    max_target_tokens: ClassVar[int] = 128
    needs_picture: ClassVar[bool] = False

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

    def ask(self, text: str = "", *, lang: str = "en") -> str:
        """``text`` is the corrupted text with its mode token and sentinels."""
        return require_text(text, self, "a text")
