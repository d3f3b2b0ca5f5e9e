"""``printed``: fonts of screens, bitmap and console fonts, and texts of manuals and programs in many languages."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from openpali.text.characters import numbers_of
from openpali_lab.worlds.builders import packages
from openpali_lab.worlds.builders.base import Dataset
from openpali_lab.worlds.builders.output import write_licences

_SOME = r".*(Regular|Bold|Italic|Medium|-R|-B|-I)"
_75, _100, _CYRILLIC = "xfonts-75dpi", "xfonts-100dpi", "xfonts-bolkhov-75dpi"
# Family -> (package, what the names of its files are, as a regular expression). A design and its clones are one
# family, with the name that it has in the data set `lines`. X's fonts "fixed" are left out: others test on them.
FAMILIES = {
    "Terminus": (("xfonts-terminus", r"ter-u\d+[nb]_unicode"),),
    "AdobeHelvetica": tuple((name, r"helv[A-Z]+\d+(c_c)?") for name in (_75, _100, _CYRILLIC)),
    "AdobeTimes": tuple((name, r"tim[A-Z]+\d+(c_c)?") for name in (_75, _100, _CYRILLIC)),
    "AdobeCourier": tuple((name, r"cour[A-Z]+\d+(c_c)?") for name in (_75, _100, _CYRILLIC)),
    "Century": tuple((name, r"ncen[A-Z]+\d+") for name in (_75, _100)),
    "Charter": tuple((name, r"char[A-Z]+\d+") for name in (_75, _100)),
    "Lucida": tuple((name, r"lu[A-Za-z]+\d+(c_c)?") for name in (_75, _100, _CYRILLIC)),
    "Clean": (("xfonts-base", r"cl[RBI]\d+x\d+"),),
    "Cronyx": (("xfonts-cronyx-75dpi", r"crox.*"), ("xfonts-cronyx-100dpi", r"crox.*")),
    "Neep": (("xfonts-jmk", r"neep-iso10646-1-.*"),),
    "X3270": (("xfonts-x3270-misc", r"3270.*"), ("fonts-3270", r".*")),
    "Unifont": (("xfonts-unifont", r"unifont"),),
    "Efont": (("xfonts-efont-unicode", r"[bfh]\d+"),),
    "Spleen": (("fonts-spleen", r"spleen-(?!5x8|32x64).*"),),
    "Shinonome": (("xfonts-shinonome", r"shnm\d+x\d+ab?"),),
    "MPlus": (("xfonts-mplus", r"mplus_[fhs]1[02][rb]"),),
    "Etl": (("xfonts-intl-european", r"lt1-(14|16|18|24)b?-etl"),),
    "MicrosoftSans": (("fonts-wine", r"ms_sans_serif|small_fonts|system"),),
    "Helvetica": (
        ("fonts-freefont-ttf", r"FreeSans.*"),
        ("fonts-croscore", r"Arimo.*"),
        ("fonts-liberation-sans-narrow", r".*"),
    ),
    "Times": (("fonts-freefont-ttf", r"FreeSerif.*"), ("fonts-croscore", r"Tinos.*")),
    "Courier": (("fonts-freefont-ttf", r"FreeMono.*"),),
    "LiberationMono": (("fonts-croscore", r"Cousine.*"),),
    "DejaVu": (("ttf-bitstream-vera", r"Vera.*"),),
    "NotoSans": (("fonts-noto-mono", r"NotoMono.*"), ("fonts-droid-fallback", r"DroidSans(Mono|-.*)?")),
    "Tahoma": (("fonts-wine", r"tahoma(bd)?"),),
    "Gentium": (("fonts-sil-gentiumplus", _SOME),),
    "Go": (("fonts-go", r".*"),),
    "B612": (("fonts-b612", r".*"),),
    "Atkinson": (("fonts-atkinson-hyperlegible-ttf", r".*"),),
    "ClearSans": (("fonts-clear-sans", r".*"),),
    "Montserrat": (("fonts-montserrat", r"Montserrat-(Regular|Bold|Italic|Medium|Light)"),),
    "Manrope": (("fonts-manrope", r".*"),),
    "Play": (("fonts-play", r".*"),),
    "Jura": (("fonts-jura", r".*"),),
    "Andika": (("fonts-sil-andika", _SOME),),
    "Charis": (("fonts-sil-charis", _SOME),),
    "Doulos": (("fonts-sil-doulos", _SOME),),
    "OldStandard": (("fonts-oldstandard", r".*"),),
    "RobotoSlab": (("fonts-roboto-slab", r".*"),),
    "Didot": (("fonts-gfs-didot", r".*"),),
    "NeoHellenic": (("fonts-gfs-neohellenic", r".*"),),
    "Artemisia": (("fonts-gfs-artemisia", r".*"),),
    "Agave": (("fonts-agave", r".*"),),
    "Fantasque": (("fonts-fantasque-sans", r"FantasqueSansMono-(Regular|Bold|Italic)"),),
    "Monoid": (("fonts-monoid", r".*"),),
    "Monofur": (("fonts-monofur", r".*"),),
    "Hermit": (("fonts-hermit", r".*"),),
    "LeagueMono": (("fonts-league-mono", r".*(Regular|Bold)"),),
    "KodeMono": (("fonts-kode-mono", r".*"),),
    "Sora": (("fonts-sora", r".*"),),
    "Tuffy": (("fonts-tuffy", r".*"),),
    "Stix": (("fonts-stix", r".*(Regular|Bold|Italic|Text)"),),
    "LatinModern": (("fonts-cmu", r"cmun(rm|bx|ti|ss|sx|tt|tb)"),),
    "Karmilla": (("fonts-karmilla", _SOME),),
    "NationalPark": (("fonts-national-park", r".*"),),
    "Tiresias": (("fonts-tiresias", r".*"),),
}
_MANUALS = ["de", "fr", "es", "it", "pl", "cs", "nl", "ro", "sv", "da", "fi", "hu", "nb", "tr", "vi"]
MANUALS = {
    "en": "manpages",
    **{code: f"manpages-{code}" for code in [*_MANUALS, "ru", "uk", "sr", "mk", "el"]},
    "pt": "manpages-pt-br",
}
PROGRAMS = "cinnamon-l10n"
_CODES = {"en": "en_GB", "pt": "pt_BR"}  # of the texts of programs, where they differ
LANGUAGES = [*MANUALS, "bg", "be", "ca", "sk", "hr", "sl", "lt", "lv"]
MOST = 1_500_000  # characters of a language
_FORMAT = re.compile(r"%[\d$.\-]*[a-z]|[{}<>]|\\|&[a-z]+;")
_FONT = re.compile(r"\\f(\(..|\[[^]]*\]|.)|\\[,/&|^]")
_SIGNS = {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\e": "\\", r"\(co": "©", r"\(bu": "•", r"\(em": "—", r"\ ": " "}


def build(folder: Path) -> None:
    """Write ``fonts/FAMILY/`` and ``text-LANGUAGE.txt``, whose lines have characters that a reader can write."""
    for family, sources in FAMILIES.items():
        target = folder / "fonts" / family
        target.mkdir(parents=True)
        for package, names in sources:
            for file in sorted((packages.fetch(package) / "usr/share").rglob("*")):
                stem = file.name.split(".")[0]
                if (
                    re.fullmatch(r".+\.([ot]tf|pcf\.gz)", file.name)
                    and re.fullmatch(names, stem)
                    and file.is_file()
                ):
                    content = file.read_bytes()
                    name = f"{package}-{file.name.removesuffix('.gz')}"
                    (target / name).write_bytes(gzip.decompress(content) if file.suffix == ".gz" else content)
    for language in LANGUAGES:
        lines = (" ".join(line.split()) for line in _texts(language))
        kept = [line for line in dict.fromkeys(lines) if any(map(str.isalpha, line)) and numbers_of(line)]
        text = "\n".join(kept)[:MOST]
        (folder / f"text-{language}.txt").write_text(text[: text.rindex("\n") + 1], "utf-8")
    write_licences(folder, needed())


def needed() -> list[str]:
    """The packages that it is built from."""
    fonts = [package for sources in FAMILIES.values() for package, _ in sources]
    return [*dict.fromkeys([*fonts, *MANUALS.values(), PROGRAMS])]


def _texts(language: str) -> Iterator[str]:
    """What programs say, then what manuals say."""
    folder = packages.fetch(PROGRAMS) / "usr/share/locale" / _CODES.get(language, language)
    for file in sorted(folder.rglob("*.mo")):
        for source, message in packages.read_messages(file).items():
            if isinstance(source, str) and source and not _FORMAT.search(message):
                yield from message.replace("_", "").splitlines()
    if language in MANUALS:
        for page in sorted((packages.fetch(MANUALS[language]) / "usr/share/man").rglob("*.gz")):
            if not page.is_symlink():
                yield from roff_lines(page)


def roff_lines(page: Path) -> Iterator[str]:
    """The lines of text of a manual page, without roff's requests."""
    for line in gzip.decompress(page.read_bytes()).decode("utf-8", "ignore").splitlines():
        text = _FONT.sub("", line)
        for code, sign in _SIGNS.items():
            text = text.replace(code, sign)
        if text and text[0] not in ".'" and "\\" not in text:
            yield text


DATASET = Dataset(build, needed, parts=("lines",), minutes=1, megabytes=163, in_all=False)
