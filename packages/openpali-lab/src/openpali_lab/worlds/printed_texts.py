"""What lines of screens say: programs and manuals in 30 languages, terminals, code, and what is easily confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from openpali.home import data_folder
from openpali.text.characters import numbers_of
from openpali_lab.worlds.line_texts import FIELDS, Field, fill, has_novel_word, is_novel, one_of, templates
from openpali_lab.worlds.sampler import TRIES, Sampler

SCRIPTS: Mapping[str, Sequence[str]] = {
    "Cyrillic": "ru ru uk uk bg sr be mk".split(),
    "Greek": ["el"],
    "Latin": ("en en en de de fr fr es es it pt pl pl cs tr hu ro nl sv da fi nb vi ca sk hr sl lt lv".split()),
}
TERMINAL = templates(
    """
{mode}   {mode} {n} {user} {user} {count} {Mon} {dd} {hour}:{minute} {word}.{ending}
{mode}  {n} {user} {user}  {count} {Mon} {dd} {hour}:{minute} {word}.{ending}
{user} {user} {nnnn} {Mon} {dd} {year} {word}   {count}{unit}   {nn}{unit} {n}% /dev/{disk}   /dev/{disk}
{nn}{unit}   {n}.{n}{unit}   tmpfs {n}.{n}{unit} {n} {n}.{n}{unit} {n}% /run   {user}@{word}:~$
{user}@{word}:~/{word}$ {word} -{letter} {word}   $ {word} --{word}   # {word} {word}   {n}   {nn}   {letter}
{digit}   {digit} {digit}   {count} {count}   __{word}__   def __{word}__(self):   ():   '{letter}',   {word}():
'{word}',   "{word}",   [{n}, {n}, {n}]   ({n}, {n})   {{n}: '{word}'}   --{word}   -{letter}   -{letter} {n}
--{word}=/{word}   {word}.{word}()   self.{word} = {word}   for {letter} in {word}:   while True:
#include <{word}.h>   int {word}(void);   static {word} *{word};   return {n};   }   {   });   */   /* {word} */
// {Word} {word}   => {word}   != {n}   == '{word}'   {nnn}:{nnn}   +{n},{n}   @@ -{nn},{n} +{nn},{n} @@
{hex}{hex}   {pid} pts/{n} {nn}:{nn}:{nn} {word}   {pid} ?  Ss  {n}:{nn} /usr/bin/{word}   drwxr-xr-x
-rw-r--r--   total {count}   {nn}.{n} us   {nn}.{n}%   [{nn}%]   [ OK ]   [{pid}.{nnnn}] {word}: {word}
*.{ending}   ../{word}   ./{word}.sh   ~/.{word}   .{word}rc   /etc/{word}/{word}.conf
/usr/share/{word}/{word}.{ending}   {n}x   x{n}   {n}/{n}   {nn}/{nn}   - {word}   -- {word}   — {word}   ...
…   {Word}…   {Word}...   {Word}...{count}   . . .   : {word}   {Word}: -   Ctrl+{LETTER}   Alt+F{n}
Shift+Ctrl+{LETTER}   F{n}   ⌘{LETTER}   ⇧⌘{LETTER}   ⌥{LETTER}   ⌥⌘{LETTER}   ← →   ↑ {n}   ↓ {n}
Ctrl-{LETTER}   ^{LETTER}   ^{LETTER} {Word}   Ln {n}, Col {nn}   {nn}:{n}   {count} B   {n},{n} {unit}B
{nnn} × {nnn}   100%   UTF-8   {Word} ({LETTER})   {LETTER}   ({n})   ✓ {Word}   • {word}   x = {n}
y: {n}.{nn}   i++   a[i]   l{n}   O{n}   I{n}   {n}l   1l   0O   Il1   {word}{n}   {letter}{n}   {n}{letter}
"""
)
CONFUSED = "wuvy oaec 935862 O0oQ lI1i|! rnm cldq 5S$ 8B& 2Zz gq9 .,:;'` -_–—~= ijl ft hnb".split()
MODES = "-rw-r--r-- drwxr-xr-x -rwxr-xr-x lrwxrwxrwx -rw------- drwx------ crw-rw---- drwxrwxrwt".split()
USERS = ["root", "user", "www-data", "anna", "admin", "max", "wheel", "staff", "nobody"]
DISKS = ["sda1", "sda2", "sdb1", "nvme0n1p1", "nvme0n1p2", "mapper/vg-root", "vda1", "loop0", "tty1"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def printed_text(sampler: Sampler, most: int) -> tuple[str, str]:
    """A text of 1 to ``most`` characters from the sample's split, and its language.

    Two spaces or more are drawn where it has them. Seven of ten are cut from programs and manuals, of these a fifth
    Cyrillic and a twentieth Greek; the rest are lines of terminals and code, and characters that look alike.
    """
    for _ in range(TRIES):
        chance = sampler.uniform(0, 1)
        kind = "Cyrillic" if chance < 0.2 else "Greek" if chance < 0.25 else "Latin" if chance < 0.78 else "code"
        if kind == "code":
            text, language = _of_code(sampler), "en"
        else:
            languages = SCRIPTS[kind]
            language = languages[sampler.integer(0, len(languages) - 1)]
            text = _styled(sampler, _cutting(sampler, _lines(language), most))
        if numbers_of(text) and len(text) <= most and _is_of_split(" ".join(text.split()), heldout=sampler.heldout):
            return text, language
    raise ValueError(f"there is no {sampler.split} line of {most} characters: allow longer ones")


def _is_of_split(text: str, *, heldout: bool) -> bool:
    """Whether a text is of a split; one of two characters or fewer is of both, since a reader must learn all."""
    return not has_novel_word(text) if len(text) <= 2 else is_novel(text) == heldout


@cache
def _lines(language: str) -> Sequence[str]:
    return (data_folder("printed") / f"text-{language}.txt").read_text("utf-8").splitlines()


def _cutting(sampler: Sampler, lines: Sequence[str], most: int) -> str:
    """Consecutive words of a line, as many as fit into a random length; short ones are as likely as long ones."""
    words = lines[sampler.integer(0, len(lines) - 1)].split()
    room = round(most ** sampler.uniform(0.2, 1))
    first = sampler.integer(0, len(words) - 1)
    kept = words[first : first + 1]
    for word in words[first + 1 :]:
        if len(" ".join([*kept, word])) > room:
            break
        kept.append(word)
    return " ".join(kept)


def _styled(sampler: Sampler, text: str) -> str:
    """A text in capitals, in spaced capitals or with stops at its end; most as they are."""
    chance = sampler.uniform(0, 1)
    if chance < 0.06:
        return text.upper()
    if chance < 0.075:
        return " ".join(text.split()[0].upper())
    if chance < 0.10:
        return text.rstrip(".,:;… ") + ("…" if chance < 0.087 else "...")
    return text


def _of_code(sampler: Sampler) -> str:
    chance = sampler.uniform(0, 1)
    if chance < 0.15:
        return _of_confused(sampler)
    return fill(TERMINAL[sampler.integer(0, len(TERMINAL) - 1)], SCREEN_FIELDS, sampler, "en")


def _of_confused(sampler: Sampler) -> str:
    """Characters that a reader takes for each other, alone or among others."""
    alike = "".join(CONFUSED[sampler.integer(0, len(CONFUSED) - 1)] for _ in range(sampler.integer(1, 3)))
    drawn = (alike[sampler.integer(0, len(alike) - 1)] for _ in range(sampler.integer(1, 9)))
    spaced = (letter + " " * (sampler.uniform(0, 1) < 0.15) for letter in drawn)
    return " ".join("".join(spaced).split())


SCREEN_FIELDS: Mapping[str, Field] = {
    **FIELDS,
    "mode": one_of(MODES),
    "user": one_of(USERS),
    "disk": one_of(DISKS),
    "Mon": one_of(MONTHS),
    "unit": one_of("KMGT"),
    "digit": one_of("0123456789"),
    "LETTER": one_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "dd": lambda draws, language: str(draws.integer(1, 31)),
    "pid": lambda draws, language: f"{int(10 ** draws.uniform(1, 5))}",
}
