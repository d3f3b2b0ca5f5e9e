"""The networks of a reader of screens from ONNX graphs, which ONNX Runtime runs on the CPU.

A folder holds ``finder.onnx``, ``reader.onnx``, ``elements.onnx`` and ``icons.onnx``, of which the last two may be
missing; ``arrays.npz``, the language model and the detector of what is no page; and ``model.json``, the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openpali_screen.geometry import Size
from openpali_screen.language import STORED, open_language
from openpali_screen.networks import (
    Calibration,
    ElementNetwork,
    FinderNetwork,
    IconNetwork,
    Networks,
    PageDetector,
    ReaderNetwork,
)

ABOUT, ARRAYS = "model.json", "arrays.npz"
DETECTOR = ("mean", "whiten", "centres", "limit")
SHIPPED = Path(__file__).parent / "models" / "nano"
THREADS = "OPENPALI_SCREEN_THREADS"
"""Variable of the environment: threads of each network; by default one, since a screen is many small products."""


def open_networks(folder: str | Path | None = None) -> Networks:
    """Open graphs and what belongs to them; those of the package without a folder.

    Raises:
        FileNotFoundError: the folder holds no model.
    """
    folder = SHIPPED if folder is None else Path(folder)
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(
            f"{folder} holds no model for screens ({ABOUT} is missing): python -m openpali_screen.pack writes one"
        )
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    arrays = np.load(folder / ARRAYS, allow_pickle=False)
    run = {name: _opened(folder / f"{name}.onnx") for name in about["networks"]}
    finder, reader, elements, icons = map(about["networks"].get, ("finder", "reader", "elements", "icons"))
    return Networks(
        about["name"],
        FinderNetwork(Size(*finder["tile"]), run["finder"]),
        ReaderNetwork(Size(*reader["size"]), reader["steps"], reader["characters"], _only(run["reader"])),
        ElementNetwork(elements["side"], elements["roles"], run["elements"]) if elements else None,
        IconNetwork(icons["side"], icons["labels"], _only(run["icons"])) if icons else None,
        open_language(arrays) if {*STORED} <= {*arrays} else None,
        PageDetector(*(arrays[name] for name in DETECTOR)) if {*DETECTOR} <= {*arrays} else None,
        Calibration(**about["words"]) if "words" in about else None,
        Calibration(**about["roles"]) if "roles" in about else None,
    )


def _only(run: Callable[..., Any]) -> Callable[..., Any]:
    """The first output."""
    return lambda *inputs: run(*inputs)[0]


def _opened(path: Path) -> Callable[..., Any]:
    """A graph as a function of arrays, which is loaded when it is first called."""
    session: Any = None

    def run(*inputs: Any) -> Any:
        nonlocal session
        if session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(os.environ.get(THREADS, "1"))
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))

    return run
