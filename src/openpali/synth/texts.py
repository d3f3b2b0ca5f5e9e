"""Text without pictures: what UL2's denoisers are fed."""

from __future__ import annotations

from openpali.synth.draw import Draw
from openpali.tasks.example import Example


def text(draw: Draw, *, min_lines: int = 1, max_lines: int = 4) -> Example:
    """Captions of several things in one language, a line each.

    Nothing is held out: what is measured later is pictures, and every caption of the world may be met here.
    """
    codes = draw.world.languages
    lang = codes[draw.integer(0, len(codes) - 1)]
    stamps = [s for s in draw.stamps(draw.integer(min_lines, max_lines)) if lang in s.captions]
    lines = [s.captions[lang] for s in stamps] or [draw.stamp().captions["en"]]
    return Example(key=draw.key, text="\n".join(lines), lang=lang)
