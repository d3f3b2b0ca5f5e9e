"""``openpali export``: a model in a form for others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openpali.cli.outputs import check_not_at_root, check_not_input

if TYPE_CHECKING:
    from openpali.weights.format import ModelFolder


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A model folder, a finished run, an adapter, the name of a shipped model, or, for the format "
            "openpali, a TOML file that names the parts of a bundle, such as recipes/nano/bundle.toml"
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; several parts are written to its subfolders")],
    format: Annotated[
        Literal["transformers", "onnx", "openpali"],
        typer.Option(
            help="Checkpoints for transformers' own classes, ONNX graphs of every part, or a model folder of ours: "
            "an adapter merged into its base, or runs packed into one bundle in bf16"
        ),
    ] = "transformers",
    int8: Annotated[bool, typer.Option("--int8", help="Weights of ONNX graphs in int8")] = False,
) -> None:
    """Write a model for others: for transformers, as ONNX graphs, or as one folder of OpenPaLI."""
    from openpali.weights.files import CONFIG

    if int8 and format != "onnx":
        raise ValueError("--int8 is for ONNX graphs: add --format onnx, or use openpali quantize")
    check_not_at_root(out / CONFIG)
    writers: dict[str, Callable[[str, Path], Iterator[str]]] = {
        "transformers": _transformers,
        "onnx": partial(_onnx, int8=int8),
        "openpali": _ours,
    }
    for line in writers[format](model, out):
        typer.echo(line)


def _ours(model: str, out: Path) -> Iterator[str]:
    from openpali.weights.bundle import pack_bundle
    from openpali.weights.find import find_model
    from openpali.weights.format import open_model, write_merged

    if model.endswith(".toml"):
        for part, size in pack_bundle(Path(model), out).items():
            yield f"{part:12} {size / 1e6:6.1f} MB"
        yield f"bundle written to {out}"
        return
    source = open_model(find_model(model))
    check_not_input(out, *source.folders)
    write_merged(source, out)
    yield f"model written to {out}"


def _onnx(model: str, out: Path, int8: bool) -> Iterator[str]:
    from openpali.onnx.export import write

    origin, _ = _open(model, out)
    for file in write(origin, out, int8=int8):
        yield f"{file.relative_to(out)}, {file.stat().st_size / 1e6:,.2f} MB"


def _transformers(model: str, out: Path) -> Iterator[str]:
    from openpali.architectures.preprocessor import Inexpressible
    from openpali.weights.export import export as write
    from openpali.weights.files import MAIN, SIGLIP

    origin, parts = _open(model, out)
    chosen = [name for name in parts if len(parts) == 1 or name in (MAIN, SIGLIP)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Inexpressible)
        for name in chosen:
            for written in write(parts[name], out / name if len(parts) > 1 else out):
                yield f"{name} written to {written}"
    if others := [name for name in parts if name not in chosen]:
        typer.echo(
            f"openpali: left out: {', '.join(others)}; `openpali export {origin}/PART` writes one of them, if "
            "transformers has a class for it",
            err=True,
        )
    for other in (each for each in caught if each.category is not Inexpressible):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if differences := dict.fromkeys(str(each.message) for each in caught if each.category is Inexpressible):
        warnings.warn("; ".join(differences), Inexpressible, stacklevel=1)


def _open(model: str, out: Path) -> tuple[Path, dict[str, ModelFolder]]:
    from openpali.weights.bundle import open_bundle
    from openpali.weights.find import find_model
    from openpali.weights.format import open_model

    origin = find_model(model)
    parts = {name: open_model(folder) for name, folder in open_bundle(origin).parts.items()}
    check_not_input(out, origin, *(folder for part in parts.values() for folder in part.folders))
    return origin, parts
