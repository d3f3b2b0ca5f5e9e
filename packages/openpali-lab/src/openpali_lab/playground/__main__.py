"""``python -m openpali_lab.playground OUT``: see :mod:`openpali_lab.playground.build`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from openpali_lab.playground.build import build

RUNTIME = Path("build/npm/node_modules/onnxruntime-web")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m openpali_lab.playground", description="Write a page without a server."
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--model", default="nano", help="model folder, or the name of a model")
    parser.add_argument("--float32", action="store_true", help="weights in float32 instead of int8")
    parser.add_argument("--runtime", type=Path, default=RUNTIME, help="folder of the npm package onnxruntime-web")
    given = parser.parse_args()
    try:
        build(given.out, given.runtime, given.model, int8=not given.float32)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in given.out.rglob("*") if file.is_file())
    print(
        f"{given.out} ({size / 1e6:.1f} MB): python -m http.server --directory {given.out}, then open http://localhost:8000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
