"""``openpali predict``: ask a model about images, videos, or the samples of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpali import __version__
from openpali.cli.models import open_pali, wait_passively
from openpali.cli.options import Device, Dtype, Engine, Json, Model, Stride, UsageError
from openpali.cli.outputs import check_drawable, check_not_input, check_writable
from openpali.messages import printable

if TYPE_CHECKING:
    from openpali.infer.bulk import Done, Request
    from openpali.infer.pali import Pali
    from openpali.infer.pipeline import Prediction
    from openpali.tasks.example import Example


def predict(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE... TEXT",
            help="Images, videos or folders, then a question or a prompt; with --task, what the task asks about",
        ),
    ] = None,
    model: Model = "nano",
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    task: Annotated[
        str, typer.Option(help="Write the prompt of this task: caption, ocr, vqa, detect, refseg, ...")
    ] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Send the text as a whole prompt, even if it reads like a question")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Detect by the image encoder alone (a model trained with sides)")
    ] = False,
    lang: Annotated[str, typer.Option(help="Language of the answer; default: en, or the sample's")] = "",
    as_frames: Annotated[bool, typer.Option("--as-frames", help="Take the images as frames of one video")] = False,
    frames: Annotated[int, typer.Option(help="Maximum number of frames of a video", min=1)] = 8,
    stride: Stride = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Draw the answer on the image and write it here")] = None,
    source: Annotated[
        str, typer.Option("--input", help="Ask about the samples of a JSONL file, shards or Parquet files")
    ] = "",
    output: Annotated[
        Path | None, typer.Option(help="Write a line of JSON for each sample of --input; resumes from this file")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples per batch; with torch it changes no answer", min=1)] = 32,
    ray: Annotated[
        bool, typer.Option("--ray", help="Answer --input on a Ray cluster; --output is a folder (extra ray)")
    ] = False,
    workers: Annotated[int, typer.Option(help="With --ray: models that answer at the same time", min=1)] = 1,
) -> None:
    """Ask a model about each image, each video, or each sample of a file."""
    wait_passively()
    if as_frames and stride is not None:
        raise ValueError("--stride is for video files, and --as-frames takes images: leave out one")
    paths, text = ([], " ".join(inputs or [])) if source else _split(inputs or [], task)
    files = None
    if source or output:
        if not source or output is None:
            raise ValueError("--input and --output go together: samples in, a line of JSON for each of them out")
        if named := [each for each in inputs or [] if _names_file(each)]:
            raise ValueError(f"{named[0]} is a file beside --input, whose samples name their images: leave it out")
        if as_frames or out:
            raise ValueError("--as-frames and --out are for images on the command line, not for --input")
        from openpali.data.sources.registry import check_source

        check_source(source)
        check_not_input(output, source)
        check_writable(output / "000000000000.jsonl" if ray else output)
    elif ray:
        raise ValueError("--ray answers the samples of --input, and writes the folder --output: give both")
    else:
        files = _Files.of(paths, as_frames, frames, stride)
        if out is not None:
            if len(files) > 1:
                raise ValueError(f"--out draws one answer, and there are {len(files)} images: draw them one by one")
            check_not_input(out, *chain(*files.rows))
            check_drawable(out)
    pali = open_pali(model, engine, dtype, device)
    from openpali.infer.bulk import Request  # imports torch: wrong paths are refused before

    request = Request(task, text, lang, raw, fast)
    if files is not None:
        _answer_files(pali, files, request, batch_size, as_json, out)
    elif output is not None:
        bulk = _Bulk(pali, source, output, request, batch_size, frames, stride)
        bulk.answer_with_ray(workers) if ray else bulk.answer()


class _Bulk:
    """The samples of a file and their answers."""

    def __init__(
        self, pali: Pali, source: str, output: Path, request: Request, batch: int, frames: int, stride: int | None
    ) -> None:
        import hashlib

        from openpali.data.sources.registry import holds_records, open_source
        from openpali.eval.provenance import hash_model

        options = {"frames": frames, "stride": stride} if holds_records(source) else {}
        local = holds_records(source) and "://" not in source
        path = str(Path.cwd() / Path(source).expanduser()) if local else source
        self.open_source = partial(open_source, path, options)  # also for processes with another working folder
        self.samples = open_source(source, options)
        self.pali, self.output, self.request, self.batch = pali, output, request, batch
        samples = _digest(Path(path)) if local else source
        settings = (__version__, samples, hash_model(pali, pali.parts), pali.engine, pali.dtype, request, options)
        self.run = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]

    def answer(self) -> None:
        """Write a file of answers."""
        from openpali.infer.bulk import AnswersFile, replies

        file = AnswersFile(self.output, self.run)
        done = file.go_on(len(self.samples))
        left = replies(self.pali, self.samples, self.request, batch=self.batch, skip=done.samples)
        self._report(chain([done], map(file.write, left)))

    def answer_with_ray(self, workers: int) -> None:
        """Write a folder of answers."""
        from openpali.extensions import option

        answer = option("predict --ray")
        self._report(answer(self.pali, self.open_source, self.request, self.run, self.output, self.batch, workers))

    def _report(self, written: Iterable[Done]) -> None:
        """Show counts of answered samples, errors and out-of-distribution images."""
        from openpali.infer.pipeline import ood_warning
        from openpali.reports.progress import progress_bar

        done = errors = ood = 0
        total = len(self.samples)
        with progress_bar() as start:
            advance = start(str(self.output))
            for each in written:
                done, errors, ood = done + each.samples, errors + each.errors, ood + each.ood
                advance(done, total)
        failed = f", {errors:,} with an error, see its line" if errors else ""
        typer.echo(f"{self.output}: {total:,} samples{failed}")
        if ood:
            message = f'openpali: {ood:,} samples are marked "out_of_distribution": {ood_warning(self.pali.name)}'
            typer.echo(message, err=True)
        if errors and errors == total:
            raise typer.Exit(1)


def _digest(path: Path) -> str:
    """Identifies the content of a file, or the names and sizes of the files in a folder."""
    import hashlib

    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return repr(sorted((each.name, each.stat().st_size) for each in path.rglob("*") if each.is_file()))


def _answer_files(pali: Pali, files: _Files, request: Request, batch: int, as_json: bool, out: Path | None) -> None:
    from openpali.infer.bulk import replies
    from openpali.infer.pipeline import ood_warning
    from openpali.reports.drawing import draw_prediction

    errors = []
    answers = chain.from_iterable(replies(pali, files, request, batch=batch))
    for row, answered in zip(files.rows, answers, strict=True):
        names = [*map(printable, row)]
        reply = replace(answered, key=names[0], files=names, error=printable(answered.error))
        if reply.prediction is None:
            errors.append(reply.error)
        elif reply.prediction.out_of_distribution:
            typer.echo(f"openpali: {reply.key}: {ood_warning(pali.name)}", err=True)
        if out is not None and reply.prediction is not None:
            draw_prediction(files[0].images[0], reply.prediction.shown).save(out)
            typer.echo(f"drawn answer written to {out}", err=True)  # stdout may be JSON
        if as_json and (reply.prediction or len(files) > 1):
            typer.echo(json.dumps(reply.as_json(), ensure_ascii=False))
        elif reply.prediction is not None:
            _print(reply.prediction, request.text, f"{reply.key}: " if len(files) > 1 else "")
    if errors:
        of = f"{len(errors)} of {len(files)} images have no answer: " if len(files) > 1 else ""
        raise ValueError(of + "; ".join(errors))


def _print(prediction: Prediction, text: str, before: str) -> None:
    from openpali.reports.drawing import show_confidence

    answer = prediction.shown
    typer.echo(
        f"{before}{answer.text}"
        + ("" if answer.confidence is None else f"  ({show_confidence(answer.confidence)})")
    )
    for found in answer.objects:
        box = ", ".join(f"{name} {value:.0f}" for name, value in found.box._asdict().items())
        area = "" if found.mask is None else f", mask of {int(found.mask.sum())} pixels"
        confidence = "" if found.confidence is None else f", {show_confidence(found.confidence)}"
        label = f" {found.label!r}" if found.label else ""
        typer.echo(f"  {found.name or text}{label}: {box}{area}{confidence}")


@dataclass(frozen=True)
class _Files:
    """Images and videos on the command line, as a source."""

    rows: Sequence[Sequence[str]]  # the paths of each sample: one, or the frames of a video
    # frames, stride: of a video file
    frames: int
    stride: int | None

    @classmethod
    def of(cls, paths: Sequence[str], as_frames: bool, frames: int, stride: int | None) -> _Files:
        """Checks that the files are there, before a model is loaded; a folder stands for those in it, by name."""
        from openpali.data.media.images import check_image_file
        from openpali.data.media.loader import is_media
        from openpali.data.media.videos import is_video
        from openpali.data.sources.registry import RECORDS

        given, paths = paths, []
        for path in given:
            inside = sorted(filter(is_media, map(str, Path(path).iterdir()))) if Path(path).is_dir() else [path]
            if not inside:
                message = f"{path} is a folder without images or videos (those in folders inside it do not count)"
                raise ValueError(message)
            paths += inside
        for path in paths:
            if Path(path).suffix in RECORDS:
                raise ValueError(f"{path} holds samples: ask with --input {path} --output answers.jsonl")
            if is_video(path) and as_frames:
                raise ValueError(f"--as-frames makes one video of images, but {path} is a video: leave it out")
            check_image_file(path)
        return cls([paths] if as_frames else [[path] for path in paths], frames, stride)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Example:
        from openpali.data.media.images import load_image
        from openpali.data.media.videos import is_video, load_frames
        from openpali.tasks.example import Example

        images = [
            image
            for path in self.rows[index]
            for image in (load_frames(path, self.frames, self.stride) if is_video(path) else [load_image(path)])
        ]
        return Example(self.rows[index][0], images, lang="")


def _split(inputs: list[str], task: str) -> tuple[list[str], str]:
    """The paths of the images, and the text after them, "" for a task that needs none."""
    *paths, text = inputs or [""]
    if task and (_names_file(text) or text.endswith(os.sep) or not paths or _is_only_folder(text, task)):
        paths, text = [*paths, *filter(None, [text])], ""
    if not paths:
        raise UsageError("give one or more images, then the prompt, or a --task, such as --task caption")
    if not task and _names_file(text):
        raise ValueError(f"{text} is a file where the prompt is expected: give the images, then the prompt")
    return paths, text


def _is_only_folder(text: str, task: str) -> bool:
    """Whether a text is the path of a folder, and cannot be one that the task takes."""
    from openpali.tasks.registry import find_family

    with suppress(OSError):  # such as a text that is too long for a path
        return not find_family(task).takes and Path(text).is_dir()
    return False


def _names_file(text: str) -> bool:
    """Whether a text is the path of a file, or looks like that of an image or a video."""
    from openpali.data.media.loader import is_media
    from openpali.data.sources.files import is_file

    return (" " not in text and is_media(text)) or is_file(text)
