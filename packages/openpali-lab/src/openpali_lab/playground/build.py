"""Write the page that runs without a server.

    python -m openpali_lab.playground build/playground

The folder holds static files alone: any server of files can offer it, as ``python -m http.server``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import openpali
from openpali.eval.provenance import hash_model, package_versions
from openpali.home import DEMO, FONTS
from openpali.infer.pali import Pali
from openpali.onnx.export import write
from openpali.onnx.graphs import graphs_of
from openpali.serve.web import FOLDER, read_examples
from openpali.weights.find import find_model
from openpali.weights.ood import read_ood
from openpali_lab.playground.tables import Json, parts_of, tables_of
from openpali_screen.bundles import reader_of_bundle
from openpali_screen.parts import PAGES, READER

PAGE = Path(__file__).parent / "page"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Of onnxruntime-web: what calls it, and what computes; both in its folder ``dist``."""
MADE = "made"
"""File beside the graphs of a part with the :func:`fingerprint` of what they were made of."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; font-src 'self'; img-src 'self' blob:; media-src blob:; base-uri 'none'; "
    "form-action 'none'"
)
"""As that of ``openpali serve``, and WebAssembly may run. A browser then sends nothing to anywhere else."""
_HEAD = '<meta charset="utf-8">'
_CHANGES = {
    _HEAD: f'{_HEAD}\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
    '  <a href="docs">API</a>\n': "",
    "They go to this server and nowhere else.": "It stays on this machine: the model runs in this browser.",
    'accept="image/*,video/*,application/pdf" multiple': 'accept="image/*"',
    "Choose images or a video": "Choose an image",
    "Drop images or a video": "Drop an image",
}
"""What the page of the server says that is not so here."""


def build(out: Path, runtime: Path, name: str = "nano", *, int8: bool = True) -> None:
    """Write the page with a model.

    Args:
        out: folder; graphs of the same model that are there already are kept.
        runtime: folder of the npm package onnxruntime-web.
        name: of the model, as :meth:`Pali.from_pretrained` takes it.
        int8: weights of matmuls in int8; else float32.

    Raises:
        ValueError: onnxruntime-web is not there, or the model has a part that this page cannot run.
    """
    sources = [runtime / "dist" / file for file in RUNTIME]
    for source in sources:
        if not source.is_file():
            told = f"run `npm install --prefix {runtime.parent.parent} onnxruntime-web`, or `make playground`"
            raise ValueError(f"there is no {source}: {told}")
    pali = Pali.from_pretrained(name)
    page = out / "page"
    for folder in (FOLDER, PAGE):  # the second has another api.js
        shutil.copytree(folder, page, dirs_exist_ok=True)
    (page / "index.html").unlink()
    (out / "index.html").write_text(_index(), "utf-8")
    (page / "ort").mkdir(exist_ok=True)
    for source in sources:
        shutil.copy(source, page / "ort")
    shutil.copytree(FONTS, page / "fonts", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    _write_examples(page)
    graphs = _write_graphs(pali, find_model(name), out, int8)
    files = [*graphs, *_write_detectors(pali, out), *_write_language(pali, out), page / "ort" / RUNTIME[1]]
    tables = {**tables_of(pali), "int8": int8, "files": {_path(file, out): _facts(file) for file in files}}
    (out / "tables.json").write_text(json.dumps(tables, ensure_ascii=False, separators=(",", ":")), "utf-8")


def _index() -> str:
    text = (FOLDER / "index.html").read_text("utf-8")
    for old, new in _CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _write_examples(page: Path) -> None:
    """The demo's questions about one image, with their images."""
    examples = [each for each in read_examples() if len(each["images"]) == 1]
    (page / "examples.json").write_text(json.dumps(examples, ensure_ascii=False), "utf-8")
    for path in [*(image for each in examples for image in each["images"]), "LICENSE", "ATTRIBUTION.md"]:
        target = page / "examples" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEMO / path, target)


def _write_graphs(pali: Pali, model: Path, out: Path, int8: bool) -> list[Path]:
    """The graphs of each part, written anew unless they are of this model and this code."""
    names = {
        part: [*graphs_of(stored.kind, model)] for part in parts_of(pali) for stored, model in [pali.load(part)]
    }
    files = {part: [out / "models" / part / f"{name}.onnx" for name in some] for part, some in names.items()}
    made = {part: out / "models" / part / MADE for part in names}
    wanted = {part: fingerprint(pali, part, int8) for part in names}
    stale = [part for part, some in files.items() if not _is_made(made[part], wanted[part], some)]
    for part in stale:
        made[part].unlink(missing_ok=True)
    own = next(iter(pali.parts)) if len(pali.parts) == 1 else ""  # `write` names the parts of bundles alone
    for file in write(model, out / "models" / own, int8=int8, parts=stale):
        if file.suffix != ".onnx":
            file.unlink()  # the tables say it
    for part in stale:
        made[part].write_text(wanted[part], "utf-8")
    return [file for some in files.values() for file in some]


def _write_detectors(pali: Pali, out: Path) -> list[Path]:
    """The detectors of out-of-distribution images, as float32: mean, whitening, centres and limit of each. The
    graphs of pages do not give what theirs needs."""
    found = []
    for part in (part for part in parts_of(pali) if part not in PAGES):
        if detector := read_ood(pali.parts[part]):
            values = (detector.mean, detector.whiten, detector.centres, detector.limit)
            file = out / "models" / part / "ood.bin"
            file.write_bytes(b"".join(each.float().numpy().astype("<f4").tobytes() for each in values))
            found.append(file)
    return found


def _write_language(pali: Pali, out: Path) -> list[Path]:
    """The language model of the reader: n-grams as float64; log-probabilities and backoffs as float32."""
    if READER not in parts_of(pali) or not (language := reader_of_bundle(pali).networks.language):
        return []
    values = (language.ngrams.astype("<f8"), language.log_probs.astype("<f4"), language.backoffs.astype("<f4"))
    file = out / "models" / READER / "language.bin"
    file.write_bytes(b"".join(each.tobytes() for each in values))
    return [file]


def fingerprint(pali: Pali, part: str, int8: bool) -> str:
    """SHA-256 of what the graphs of a part are made of: weights, code, and the versions of torch and ONNX."""
    versions = package_versions(("torch", "onnx", "onnxruntime"))
    seen = sha256(repr((hash_model(pali, [part]), int8, versions)).encode())
    for folder in ("architectures", "model", "onnx"):
        for code in sorted((Path(openpali.__file__).parent / folder).rglob("*.py")):
            seen.update(code.read_bytes())
    return seen.hexdigest()


def _is_made(made: Path, wanted: str, files: Sequence[Path]) -> bool:
    return made.is_file() and made.read_text("utf-8") == wanted and all(file.is_file() for file in files)


def _path(file: Path, out: Path) -> str:
    return file.relative_to(out).as_posix()


def _facts(file: Path) -> Json:
    data = file.read_bytes()
    return {"bytes": len(data), "checksum": sha256(data).hexdigest()[:16]}
