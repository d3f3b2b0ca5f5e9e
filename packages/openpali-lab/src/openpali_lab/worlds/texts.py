"""Text without images, for UL2's denoisers."""

from __future__ import annotations

from openpali.tasks.example import Example
from openpali_lab.worlds.sampler import Sampler


def text(sampler: Sampler, *, min_lines: int = 1, max_lines: int = 4) -> Example:
    """Captions of several things in one language, one per line.

    No caption is held out: evaluations hold out images, not the words of their captions.

    Args:
        min_lines: least number of captions.
        max_lines: largest number of captions.
    """
    codes = sampler.world.languages
    lang = codes[sampler.integer(0, len(codes) - 1)]
    stamps = [s for s in sampler.stamps(sampler.integer(min_lines, max_lines)) if lang in s.captions]
    lines = [s.captions[lang] for s in stamps] or [sampler.stamp().captions["en"]]
    return Example(key=sampler.key, text="\n".join(lines), lang=lang)
