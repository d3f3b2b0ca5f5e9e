"""Reports of ``openpali data validate`` and ``data import``, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from openpali.data.importers.base import Imported
from openpali.data.problems import Problems
from openpali.data.validate import Validation

MESSAGES = 5  # number of messages printed of each kind of problem
PRINTED = 3  # number of samples printed
CHARACTERS = 20  # number of lost characters printed


def render(found: Validation, sheet: str = "") -> RenderableType:
    """The report, to print with rich; ``sheet`` is the file of the contact sheet, if there is one."""
    parts: list[RenderableType] = [
        Text(f"{found.path}: {found.samples:,} samples, {found.checked:,} checked", style="bold")
    ]
    feeds = Table("task", "can use", title="Tasks it can train", title_justify="left")
    for name, count in found.feeds.items():
        if count:
            feeds.add_row(name, f"{count:,} of {found.checked:,}")
    if found.feeds:  # recipes of pages have no tasks
        parts.append(feeds if feeds.row_count else Text("no task can use these samples", style="red"))
    if found.texts:
        share = found.lost / found.texts
        parts.append(Text(f"{share:.1%} of {found.texts:,} texts do not round-trip through the tokenizer"))
        if found.lost_characters:
            most = _by_count(found.lost_characters)[:CHARACTERS]
            parts.append(Text(f"  characters: {'  '.join(f'{_visible(c)} x {n}' for c, n in most)}"))
        parts.append(Text(f"longest target: {found.longest_target} tokens"))
    for shown in found.shown[:PRINTED]:
        parts.append(Text(f"\n{shown.where} as {shown.task}", style="bold"))
        parts.append(Text(f"  prompt  {shown.prompt}\n  target  {shown.target}"))
        if shown.target_pieces:
            parts.append(
                Text(f"  tokens  {' '.join(shown.prompt_pieces)} -> {' '.join(shown.target_pieces)}", "dim")
            )
    parts += _problems(found)
    if sheet:
        parts.append(Text(f"\nwhat the model will see: {sheet}"))
    parts.append(Text("\nno problems found", "green") if found.ok else Text(""))
    return Group(*parts)


def render_import(found: Imported) -> RenderableType:
    """What became of an imported data set, to print with rich."""
    counts = f"{found.samples:,} samples, {found.images:,} images, {found.objects:,} objects"
    parts: list[RenderableType] = [Text(f"{found.out}: {counts}", style="bold")]
    parts += [Text(f"{count:,} {what}") for what, count in _by_count(found.changed)]
    parts += [Text(note) for note in found.notes]
    if found.ok:
        parts.append(Text("nothing was left out", "green"))
    else:
        parts += [Text("\nleft out:"), *_problems(found)]
    return Group(*parts)


def _problems(found: Problems) -> Iterator[RenderableType]:
    """Each kind of problem with its first messages, the most frequent first."""
    for kind, count in _by_count(found.problems):
        yield Text(f"\n{count:,} x {kind}", style="bold red")
        yield from (Text(f"  {message}") for message in found.messages[kind][:MESSAGES])
        if count > MESSAGES:
            yield Text(f"  and {count - MESSAGES:,} more: --json prints every message", style="dim")


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Items, the highest count first."""
    return sorted(counts.items(), key=lambda item: -item[1])


def _visible(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
