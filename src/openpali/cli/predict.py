"""``openpali predict``: ask a model about images or a video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openpali.cli.options import Device, Dtype, Engine, Json, Model
from openpali.cli.outputs import IMAGE_ENDINGS, check_drawable, check_not_input

if TYPE_CHECKING:
    from openpali.infer.pipeline import Prediction


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... TEXT",
            help="Images or a video, then the prompt; with --task, what the task asks about",
        ),
    ],
    model: Model = "nano",
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    task: Annotated[
        str, typer.Option(help="Write the prompt of this task: caption, ocr, vqa, detect, refseg, ...")
    ] = "",
    lang: Annotated[str | None, typer.Option(help="Language of the task's answer; default: en")] = None,
    frames: Annotated[int, typer.Option(help="Maximum number of frames of a video", min=1)] = 8,
    stride: Annotated[
        int | None, typer.Option(help="Take every n-th frame; default: evenly spaced frames", min=1)
    ] = None,
    as_json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Draw the answer on the image and write it here")] = None,
) -> None:
    """Ask a model about an image; several images are frames of one video."""
    from openpali.data.media.videos import is_video, load_frames
    from openpali.infer.pali import Pali
    from openpali.infer.pipeline import to_array
    from openpali.reports.drawing import draw_prediction

    paths, text = _split(inputs, task)
    if lang and not task:
        raise ValueError("--lang needs a --task: a free prompt names its language itself")
    if out is not None:
        check_not_input(out, *paths)
        check_drawable(out)
    images = [
        image
        for path in paths
        for image in (load_frames(path, frames, stride) if is_video(path) else [to_array(path)])
    ]
    pali = Pali.from_pretrained(model, engine, dtype, device)
    chosen = pali.task(task or pali.recognise(text, len(images)))
    prompt = pali.word(chosen, text, lang or "en") if task else text
    [prediction] = pali.predict([images], [prompt], task=chosen)
    if out is not None:
        draw_prediction(images[0], prediction.answer).save(out)
    if as_json:
        typer.echo(json.dumps(_as_json(prompt, prediction), ensure_ascii=False))
        return
    typer.echo(prediction.answer.text)
    for found in prediction.answer.objects:
        box = ", ".join(f"{name} {value:.0f}" for name, value in found.box._asdict().items())
        area = "" if found.mask is None else f", mask of {int(found.mask.sum())} pixels"
        typer.echo(f"  {found.name or text}: {box}{area}")


def _split(inputs: list[str], task: str) -> tuple[list[str], str]:
    """The paths of the images, and the text after them, "" for a task that needs none."""
    from openpali.data.media.videos import is_video

    *paths, text = inputs
    if task and (Path(text).is_file() or not paths):  # all inputs are images
        paths, text = inputs, ""
    if not paths:
        raise ValueError("give one or more images, then the prompt")
    looks_like_a_file = " " not in text and (is_video(text) or Path(text).suffix.lower() in IMAGE_ENDINGS)
    if not task and (looks_like_a_file or Path(text).is_file()):
        raise ValueError(f"{text} is a file where the prompt is expected: give the images, then the prompt")
    return paths, text


def _as_json(prompt: str, prediction: Prediction) -> dict[str, Any]:
    objects = [
        {"name": o.name, "box": list(o.box), "mask_area": None if o.mask is None else int(o.mask.sum())}
        for o in prediction.answer.objects
    ]
    return {
        "prompt": prompt,
        "text": prediction.answer.text,
        "objects": objects,
        "score": prediction.generation.score,
        "finish_reason": prediction.generation.finish_reason,
    }
