"""``openpali sizes``: the size and cost of every preset."""

from __future__ import annotations

import json

import typer

from openpali.cli.options import Json


def sizes(as_json: Json = False) -> None:
    """Print each preset's parameters per part, bytes, and FLOPs per image and per generated token."""
    from openpali.architectures.registry import presets
    from openpali_lab.sizes import describe

    described = {name: describe(preset) for name, preset in presets().items()}
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    for name, facts in described.items():
        parts = ", ".join(f"{part} {_count(number)}" for part, number in facts["parameters"].items() if number)
        typer.echo(f"{name}: {parts}")
        typer.echo("  weights: " + ", ".join(f"{dtype} {_bytes(size)}" for dtype, size in facts["bytes"].items()))
        for resolution, cost in facts["flops"].items():
            tokens, image, token = cost["visual_tokens"], cost["per_image"] / 1e9, cost["per_token"] / 1e9
            typer.echo(
                f"  {resolution:>4} px: {tokens:,} visual tokens, {image:,.1f} GFLOP per image, "
                f"{token:,.3f} per generated token"
            )


def _count(number: int) -> str:
    return f"{number / 1e6:,.1f}M" if number >= 1e6 else f"{number / 1e3:,.1f}K"


def _bytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.2f} MB"
