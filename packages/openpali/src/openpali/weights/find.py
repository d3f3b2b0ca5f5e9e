"""Finding models by name: folders, models that ship with the package, and runs."""

from __future__ import annotations

from pathlib import Path

from openpali.home import home
from openpali.messages import nearest
from openpali.weights.files import ADAPTER, BUNDLE, CHECKPOINTS, CONFIG
from openpali.weights.hub import SCHEME, fetch

SHIPPED = Path(__file__).parents[1] / "models"
RECIPES = SHIPPED.parent / "recipes"


def find_model(name: str) -> Path:
    """The folder of a model, adapter or bundle: the path of one or of a finished run; the name of one that ships
    (``nano``); the name of a finished run (``nano/0a_siglip``), or of a model in one (``mine-detect/best``); or a
    repository of a hub (``hf://ORG/NAME``), which is downloaded.

    Raises:
        FileNotFoundError: none of these exists.
        PermissionError, OSError, ValueError: as :func:`openpali.weights.hub.fetch`.
    """
    if name.startswith(SCHEME):
        return fetch(name)
    for folder in candidates(name):
        if any((folder / file).is_file() for file in (CONFIG, BUNDLE, ADAPTER)):
            return folder
    if (Path(name) / "state.json").is_file():
        raise FileNotFoundError(
            f"{name} is a checkpoint: give the model folder that openpali.train.snapshot.export_checkpoint writes, "
            "as `openpali predict` does"
        )
    runs = Path(name), home() / "runs" / name
    if unfinished := [step for run in runs for step in sorted(run.glob(CHECKPOINTS))]:
        raise FileNotFoundError(f"the run {name} is not finished: give a checkpoint of it, {unfinished[-1]}")
    recipe = RECIPES / f"{name}.toml"
    trains = recipe.is_file() and f'name = "{name}"' in recipe.read_text("utf-8").splitlines()
    message = f"no model {name!r}: neither a model folder, nor one that ships with the package, nor a finished run"
    if trains:
        message += f"; the recipe {name} trains it, and `openpali explain --source {name}` prints that"
    elif near := nearest(name, _names()):
        message += f"; did you mean {near!r}?"
    raise FileNotFoundError(message)


def _names() -> list[str]:
    """Of the models that ship with the package, and of those of runs."""
    files = [
        (root, found)
        for root in (SHIPPED, home() / "runs")
        for file in (CONFIG, BUNDLE, ADAPTER)
        for found in root.rglob(file)
    ]
    return [found.parent.relative_to(root).as_posix() for root, found in files]


def name_of(folder: Path) -> str:
    """What :func:`find_model` takes for a folder: the name of a model that ships, or else the path."""
    return folder.relative_to(SHIPPED).as_posix() if folder.is_relative_to(SHIPPED) else str(folder)


def candidates(name: str) -> tuple[Path, ...]:
    """Where a model of this name may be."""
    if name.startswith(SCHEME):
        return (fetch(name),)
    run = home() / "runs" / name
    return Path(name), Path(name) / "model", SHIPPED / name, run / "model", run
