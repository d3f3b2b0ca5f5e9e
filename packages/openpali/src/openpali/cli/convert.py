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
    out: Annotated[Path, typer.Option(help="Model folder to write")],
    vision: Annotated[
        str | None,
        typer.Option(
            help="SigLIP, alone or in a larger model: a transformers folder, hf://ORG/NAME, or "
            "a .npz file of big_vision"
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="T5, mT5, umT5 or UL2: a transformers folder, or hf://ORG/NAME; without it, only SigLIP is "
            "converted"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A whole model instead of the two, as PaliGemma or T5Gemma 2: a transformers folder, "
            "hf://ORG/NAME, or a .npz file of big_vision"
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="The mask VQ-VAE of big_vision, vae-oid.npz, with its model or alone")
    ] = None,
    size: Annotated[
        str, typer.Option(help="Image size: pixels per side, or HEIGHTxWIDTH; default: the checkpoint's own")
    ] = "",
    head: Annotated[str, typer.Option(help="Output head of the language model: auto, tied or untied")] = "auto",
    locations: Annotated[
        int, typer.Option(help="Number of location tokens to add; default: coordinates are text", min=0)
    ] = 0,
    report: Annotated[bool, typer.Option("--report", help="Compare each layer with transformers")] = False,
) -> None:
    """Make a PaLI from public SigLIP and T5 weights, with new projection and mask tokens, or convert a model."""
    from openpali.architectures.mask_vqvae import MaskVQVAEArchitecture
    from openpali.architectures.pali import assemble, parse_head
    from openpali.architectures.siglip.architecture import SigLIPArchitecture
    from openpali.extensions import option
    from openpali.tasks.example import Size
    from openpali.weights.convert import convert as write
    from openpali.weights.convert import write_stored
    from openpali.weights.files import CONFIG
    from openpali.weights.hub import find_checkpoint

    pixels, policy = Size.parse(size) if size else None, parse_head(head)
    check_not_input(out, *(each for each in (vision, text, model, masks) if each))
    check_not_at_root(out / CONFIG)
    if (model or masks) and (vision or text):
        raise ValueError("--model and --masks read a whole model: leave out --vision and --text")
    if (locations or (head != "auto" and not report)) and not text:
        raise ValueError("--locations and --head are for a new PaLI: give --vision and --text, or leave them out")
    if size and masks and not model:
        raise ValueError("a mask VQ-VAE has one size: leave out --size")
    images, words, whole = (each and find_checkpoint(each) for each in (vision, text, model))
    if whole:
        described = write(whole, out, size=pixels, masks=masks)
    elif masks is not None:
        described = write(masks, out, architecture=MaskVQVAEArchitecture())
    elif not images:
        raise ValueError("name what to convert: --vision, --model or --masks")
    elif words:
        described = write_stored(assemble(images, words, head=policy, locations=locations), out, pixels)
    else:
        described = write(images, out, size=pixels, architecture=SigLIPArchitecture())
    for line in described:
        typer.echo(line)
    if report:
        for line in option("convert --report")(vision=images, text=words, model=whole, head=policy):
            typer.echo(line)
    typer.echo(f"model written to {out}")
