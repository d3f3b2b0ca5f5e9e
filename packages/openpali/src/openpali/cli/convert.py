"""``openpali quantize`` and ``convert``: from one form of weights to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpali.cli.outputs import check_not_at_root, check_not_input, check_writable


def quantize(
    model: Annotated[
        str, typer.Argument(help="A model folder, a finished run, or a bundle, of which every part is written")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write")],
    bits: Annotated[
        int,
        typer.Option(
            help="Of a weight: 8, or 4 for linear layers of the language model but its head, all others 8"
        ),
    ] = 8,
) -> None:
    """Write a copy of a model with int8 weights, about half the size of bf16, or int4, for inference."""
    from openpali.weights.bundle import open_bundle
    from openpali.weights.files import BUNDLE, CONFIG
    from openpali.weights.find import find_model
    from openpali.weights.format import open_model
    from openpali.weights.quantize import GROUP
    from openpali.weights.quantize import quantize as write
    from openpali.weights.write import check_hides_nothing

    if bits not in (8, 4):
        raise ValueError(f"no weights of {bits} bits: --bits takes 8 or 4")
    origin = find_model(model)
    bundle = (origin / BUNDLE).is_file()
    parts = [open_model(folder) for folder in open_bundle(origin).parts.values()]
    check_not_input(out, origin, *(folder for part in parts for folder in part.folders))
    if not bundle:
        check_hides_nothing(out)
    check_writable(out / CONFIG)
    sizes = write(origin, out, 0 if bits == 8 else GROUP)
    for part, size in sizes.items() if bundle else ():
        typer.echo(f"{part:12} {size / 1e6:6.2f} MB")
    typer.echo(
        f"{'bundle' if bundle else 'model'} written to {out}, {sum(sizes.values()) / 1e6:,.2f} MB of weights"
    )


def convert(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A SigLIP and a T5, mT5, umT5 or UL2, which make a PaLI; or a SigLIP, PaliGemma or T5Gemma 2, "
            "with big_vision's mask VQ-VAE (vae-oid.npz) or without: transformers folders, hf://ORG/NAME, or .npz "
            "files of big_vision"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Model folder to write")],
    size: Annotated[
        str, typer.Option(help="Image size: pixels per side, or HEIGHTxWIDTH; default: the checkpoint's own")
    ] = "",
    report: Annotated[bool, typer.Option("--report", help="Compare each layer with transformers")] = False,
) -> None:
    """Make a model of public weights, or a PaLI of a SigLIP and a T5, with new projection and mask tokens."""
    from openpali.extensions import option
    from openpali.tasks.example import Size
    from openpali.weights.convert import convert as write
    from openpali.weights.files import CONFIG
    from openpali.weights.hub import find_checkpoint

    pixels = Size.parse(size) if size else None
    check_not_input(out, *sources)
    check_not_at_root(out / CONFIG)
    found = [find_checkpoint(source) for source in sources]
    for line in write(found, out, size=pixels):
        typer.echo(line)
    if report:
        for line in option("convert --report")(found):
            typer.echo(line)
    typer.echo(f"model written to {out}")
