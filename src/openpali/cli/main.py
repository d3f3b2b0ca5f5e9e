"""The command line: thin, and without tracebacks. Heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data = typer.Typer(no_args_is_help=True, help="Build and check data sets.")
app.add_typer(data, name="data")

Model = Annotated[str, typer.Option(help="A model folder, a finished run, or a model that ships (nano)")]
Engine = Annotated[
    Literal["torch", "openvino", "openvino-int8", "auto"],
    typer.Option(help="What generates text; OpenVINO is faster on CPUs, and needs the extra cpu"),
]
Dtype = Annotated[Literal["fp32", "bf16"], typer.Option(help="In which torch computes; bf16 takes half the memory")]
Device = Annotated[str, typer.Option(help="Where torch computes: cpu, or cuda; under torchrun each rank's own GPU")]


@app.callback()
def _openpali() -> None:
    """PaLI-3 style vision-language models: pretrain, fine-tune, evaluate, answer."""


@app.command()
def predict(
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE... PROMPT", help="Pictures or a video, then text")],
    model: Model = "nano",
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    task: Annotated[str, typer.Option(help="caption, ocr, vqa, detect, refseg, ...: words the prompt")] = "",
    lang: Annotated[str | None, typer.Option(help="Language of a task's answer; default: en")] = None,
    frames: Annotated[int, typer.Option(help="Most frames of a video", min=1)] = 8,
    stride: Annotated[int | None, typer.Option(help="Take every n-th frame; default: spread evenly", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    out: Annotated[Path | None, typer.Option(help="Draw the answer into this picture")] = None,
) -> None:
    """Ask a model about a picture; several pictures are frames of a video."""
    from openpali.data.media.videos import is_video, load_frames
    from openpali.infer.pali import Pali
    from openpali.infer.pipeline import task_of, to_array
    from openpali.reports.drawing import draw_prediction
    from openpali.reports.fonts import font_for

    *paths, text = inputs
    if task and (Path(text).is_file() or not paths):  # a task that needs no text: everything is a picture
        paths, text = inputs, ""
    if not paths:
        raise ValueError("give one or more pictures, then the prompt")
    named = " " not in text and (is_video(text) or Path(text).suffix.lower() in _OF_PICTURES)
    if not task and (named or Path(text).is_file()):
        raise ValueError(f"{text} stands where the prompt should: give the pictures, then what you ask")
    if lang and not task:
        raise ValueError("a prompt of your own says itself in which language to answer: --lang is for a --task")
    if out is not None:
        _not_onto(out, *paths)
        _drawable(out)
    images = [
        image
        for path in paths
        for image in (load_frames(path, frames, stride) if is_video(path) else [to_array(path)])
    ]
    pali = Pali.from_pretrained(model, engine, dtype, device)
    chosen = pali.task(task or task_of(text, len(images)))
    prompt = pali.word(chosen, text, lang or "en") if task else text
    [prediction] = pali.predict([images], [prompt], task=chosen)
    answer = prediction.answer
    if out is not None:
        draw_prediction(images[0], answer, font_for).save(out)
    if as_json:
        objects = [
            {"name": o.name, "box": list(o.box), "mask_area": None if o.mask is None else int(o.mask.sum())}
            for o in answer.objects
        ]
        generation = prediction.generation
        record = {
            "prompt": prompt,
            "text": answer.text,
            "objects": objects,
            "score": generation.score,
            "finish_reason": generation.finish_reason,
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    typer.echo(answer.text)
    for found in answer.objects:
        box = ", ".join(f"{name} {value:.0f}" for name, value in found.box._asdict().items())
        area = "" if found.mask is None else f", mask of {int(found.mask.sum())} pixels"
        typer.echo(f"  {found.name or text}: {box}{area}")


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as recipes/nano/0a_siglip.toml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value; scale=0.01 shortens")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default: in the cache")] = None,
) -> None:
    """Train by a recipe; the same command continues a run that was stopped."""
    from torch import nn

    from openpali.distributed import join_ranks
    from openpali.home import home
    from openpali.model.pali import Pali
    from openpali.reports.curves import draw_curves
    from openpali.reports.samples import draw_samples
    from openpali.train.recipe import load_recipe
    from openpali.train.trainer import Trainer
    from openpali.weights.bundle import open_tokenizer

    loaded = load_recipe(recipe, overrides or ())
    folder = run or home() / "runs" / loaded.name
    with join_ranks() as ranks:
        trainer = Trainer(loaded, folder, ranks, open_tokenizer(loaded.model.tokenizer))

        def look(model: nn.Module) -> None:
            if (folder / "metrics.jsonl").is_file() and find_spec("matplotlib"):
                draw_curves(folder)
            if isinstance(model, Pali):
                draw_samples(model, trainer.stream, trainer.samples, folder / "samples.png")

        written = trainer.train(look)
    typer.echo(f"model written to {written}")


@app.command()
def plot(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name, as nano/0a_siglip")],
    out: Annotated[Path | None, typer.Option(help="The picture; default: curves.png in the run's folder")] = None,
) -> None:
    """Draw the curves of a run as a picture."""
    from openpali.home import home
    from openpali.reports.curves import draw_curves

    folder = Path(run) if Path(run).is_dir() else home() / "runs" / run
    _writable(out)
    typer.echo(draw_curves(folder, out))


@app.command(name="eval")
def evaluate(
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK | diff A B", help="nano/caption, docvqa, ...; or compare two cards")
    ] = "",
    cards: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,
    suite: Annotated[str, typer.Option(help="Many at once: nano, mini, or paper for all that DATA holds")] = "",
    model: Model = "nano",
    engine: Engine = "torch",
    dtype: Dtype = "fp32",
    device: Device = "cpu",
    data: Annotated[Path | None, typer.Option(help="Root of official data sets; default: in the cache")] = None,
    limit: Annotated[int | None, typer.Option(help="Score only the first N samples", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Samples at once; the answers do not depend on it", min=1)] = 32,
    ocr: Annotated[str, typer.Option(help="Put OCR text into the prompt: tesseract, or a JSON file")] = "",
    file: Annotated[Path | None, typer.Option("--json", help="Write the score card here")] = None,
    save_predictions: Annotated[Path | None, typer.Option(help="Keep the answers, and go on from those")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page to look at here")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for cards, answers and pages of a suite")] = None,
) -> None:
    """Score a model; prints the scores and writes a card that says exactly how they came about."""
    from rich.console import Console

    from openpali.distributed import join_ranks
    from openpali.eval.ocr import open_ocr
    from openpali.eval.registry import find_benchmark
    from openpali.eval.runner import PATIENCE_OF_RANKS, run
    from openpali.home import home
    from openpali.infer.pali import Pali
    from openpali.reports import card_diff as diff
    from openpali.reports import suites
    from openpali.reports.eval_page import write_report
    from openpali.reports.progress import progress_bar

    if benchmark == "diff":
        if len(cards or ()) != 2:
            raise ValueError("name two score cards: openpali eval diff A.json B.json")
        typer.echo("\n".join(diff.render(diff.compare(*cards or ()))))
        return
    if cards or bool(benchmark) == bool(suite):
        raise ValueError("name one benchmark, or a --suite")
    if suite and (file or save_predictions or report):
        raise ValueError("a suite writes all of its files into one folder: --out DIR")
    if benchmark and out:
        raise ValueError("--out is for suites; a benchmark takes --json, --save-predictions and --report")
    chosen = suites.suite(suite) if suite else [find_benchmark(benchmark)]
    _writable(file, save_predictions, report, out and out / "table.md")
    root, reader = data or home() / "data", open_ocr(ocr) if ocr else None
    with join_ranks(PATIENCE_OF_RANKS) as ranks, progress_bar(quiet=ranks.rank > 0) as watch:
        pali = Pali.from_pretrained(model, engine, dtype, device)
        if suite:
            outcomes = list(
                suites.run_suite(
                    chosen,
                    pali,
                    root,
                    out=out,
                    limit=limit,
                    batch=batch_size,
                    ocr=reader,
                    ranks=ranks,
                    watch=watch,
                )
            )
        else:
            done = run(
                chosen[0],
                pali,
                root,
                limit=limit,
                batch=batch_size,
                predictions=save_predictions,
                ocr=reader,
                ranks=ranks,
                watch=watch(chosen[0]),
            )
    if ranks.rank > 0:
        return
    if suite:
        for outcome in outcomes:
            if outcome.problem:
                typer.echo(f"not run: {outcome.benchmark.name}: {outcome.problem}")
        if all(outcome.card is None for outcome in outcomes):
            raise ValueError(suites.nothing_ran(suite, root))
        Console().print(suites.render(outcomes))
        if out is not None:
            (out / "table.md").write_text(suites.as_markdown(outcomes), "utf-8")
        return
    card = done.card
    for name, value in card.scores.items():
        typer.echo(f"{name:20} {value:.4f}")
    typer.echo(f"{card.n} samples, {card.seconds:.0f} s")
    if file is not None:
        card.write(file)
    if report is not None:
        write_report(done, report)


@app.command()
def fairness(
    predictions: Annotated[Path, typer.Argument(help="Saved by `openpali eval BENCHMARK --save-predictions FILE`")],
    attributes: Annotated[Path, typer.Argument(help="CSV with a column that names the samples")],
    column: Annotated[list[str], typer.Option(help="Slice by this attribute; several: by their combinations")],
    key: Annotated[str, typer.Option(help="The column that names the samples")] = "key",
    words: Annotated[
        list[Path] | None, typer.Option(help="Word list of a trait to look for in the answers")
    ] = None,
    least: Annotated[int, typer.Option(help="Leave out slices of fewer samples", min=1)] = 20,
    file: Annotated[Path | None, typer.Option("--json", help="Write the result here")] = None,
) -> None:
    """How a score, and traits of the answers, differ between slices of people or things (docs/fairness.md)."""
    from openpali.eval import fairness as fair
    from openpali.eval.predictions import read_predictions

    _writable(file)
    rows = [line.answered for line in read_predictions(predictions)]
    groups = fair.groups_of([row.key for row in rows], fair.read_attributes(attributes, key=key), *column)
    found = {"metric": fair.benchmark_gap(predictions, groups, least=least)}
    if words:
        found |= fair.toxicity([row.text for row in rows], groups, fair.WordList.read(*words), least=least)
    typer.echo("\n".join(each.as_markdown() for each in found.values()))
    if file is not None:
        file.write_text(json.dumps({name: each.as_json() for name, each in found.items()}, indent=1) + "\n")


@data.command()
def build(
    name: Annotated[
        str,
        typer.Argument(
            help="stamps, clipart, easy-vqa, fashion-mnist, wordnet, nano-vocabulary, mini-vocabulary, or all"
        ),
    ],
    force: Annotated[bool, typer.Option(help="Build anew what is there")] = False,
) -> None:
    """Fetch packages by name and build a data set from them, in the cache."""
    from openpali.synth.build import build as build_one
    from openpali.synth.vocabulary import ALL_BUILDERS

    for each in ALL_BUILDERS if name == "all" else [name]:
        typer.echo(f"{each}: {build_one(each, force=force, builders=ALL_BUILDERS)}")


@data.command()
def refcoco(
    out: Annotated[Path, typer.Argument(help="JSONL file to write, for a recipe")],
    root: Annotated[
        Path | None, typer.Option("--data", help="Root of official data sets; default: in the cache")
    ] = None,
) -> None:
    """Write RefCOCO/+/g's training set without the pictures that any of the three is scored on."""
    from openpali.eval.datasets.refcoco import write_training
    from openpali.home import home

    _writable(out)
    for name, (kept, left_out) in write_training(root or home() / "data", out).items():
        typer.echo(f"{name}: {kept:,} pictures, {left_out:,} left out since they are scored")


@data.command()
def validate(
    path: Annotated[str, typer.Argument(help="A .jsonl file, a folder or pattern of .tar shards")],
    task: Annotated[str, typer.Option(help="What it is meant for; default: every task that it can feed")] = "",
    masks: Annotated[str, typer.Option(help="The mask VQ-VAE, for refseg: a model folder or finished run")] = "",
    tokenizer: Annotated[str, typer.Option(help="Check texts and lengths with this one")] = "nano-vocabulary",
    limit: Annotated[int, typer.Option(min=1, help="Look at so many samples, evenly spread")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Write a contact sheet here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show what the model will see, and everything that is wrong with the data."""
    from dataclasses import asdict

    from rich.console import Console

    from openpali.reports.validate import render
    from openpali.reports.validate import validate as look
    from openpali.tasks.registry import get_task
    from openpali.weights.bundle import find_model, open_mask_codec, open_tokenizer

    if out is not None:
        _drawable(out)
    tools = {"masks": open_mask_codec(find_model(masks))} if masks else {}
    chosen = get_task(task, **tools) if task else None
    report = look(path, task=chosen, tokenizer=open_tokenizer(tokenizer), limit=limit, out=out)
    if as_json:
        typer.echo(json.dumps(asdict(report), ensure_ascii=False))
    else:
        Console().print(render(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def explain(
    recipe: Annotated[Path, typer.Argument(help="A recipe")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
    rows: Annotated[int, typer.Option(help="Samples to print", min=0)] = 4,
) -> None:
    """What a recipe will draw, and its first batch token by token with what carries loss."""
    from openpali.data.explain import explain_batch
    from openpali.data.pipeline.encode import SequenceEncoder
    from openpali.data.pipeline.stream import Stream, load
    from openpali.train.phases import describe_phases, open_phases
    from openpali.train.recipe import load_recipe
    from openpali.weights.bundle import open_tokenizer

    loaded = load_recipe(recipe, overrides or ())
    tokenizer = open_tokenizer(loaded.model.tokenizer)
    phases = open_phases(loaded, tokenizer)
    for line in describe_phases(loaded, phases):
        typer.echo(line)
    if loaded.objective == "sequence":
        encoder = SequenceEncoder(tokenizer, loaded.max_prompt, loaded.max_target, loaded.too_long == "cut")
        [first] = next(load(Stream(phases, encoder, loaded.seed), start=0, batch=loaded.batch, workers=0))
        for line in explain_batch(first.batch, tokenizer, rows=rows):
            typer.echo(line)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as recipes/5b/1_multimodal.toml")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
    devices: Annotated[int, typer.Option(help="How many", min=1)] = 1,
    device: Annotated[str, typer.Option(help="h100, h200, b200, a100-80, a100-40, l40s, rtx4090, or cpu")] = "h100",
    prompt: Annotated[
        int | None, typer.Option(help="Tokens of each row's prompt; default: the recipe's most", min=1)
    ] = None,
    target: Annotated[int | None, typer.Option(help="Tokens of each row's target; the same", min=1)] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a video; the same", min=1)] = None,
    efficiency: Annotated[float, typer.Option(help="Share of the peak rate that is reached")] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """What a recipe needs on machines that are not here: memory per rank, FLOPs, traffic, days; and what fits."""
    from openpali.plan.planner import Lengths, find_device, make_plan
    from openpali.train.recipe import load_recipe

    lengths = Lengths(prompt, target, frames)
    planned = make_plan(
        load_recipe(recipe, overrides or ()), find_device(device, devices), devices, lengths, efficiency
    )
    if as_json:
        typer.echo(json.dumps(planned.as_json(), indent=1))
        return
    for line in planned.lines():
        typer.echo(line)


@app.command()
def sizes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Every preset: parameters per part, bytes, and FLOPs per picture and per generated token."""
    from openpali.model.sizes import PRESETS, describe

    described = {name: describe(preset) for name, preset in PRESETS.items()}
    if as_json:
        typer.echo(json.dumps(described, indent=1))
        return
    for name, facts in described.items():
        millions = ", ".join(f"{part} {count / 1e6:,.1f}M" for part, count in facts["parameters"].items() if count)
        typer.echo(f"{name}: {millions}")
        typer.echo(
            "  weights: " + ", ".join(f"{dtype} {size / 1e9:,.2f} GB" for dtype, size in facts["bytes"].items())
        )
        for resolution, cost in facts["flops"].items():
            tokens, image, token = cost["visual_tokens"], cost["per_image"] / 1e9, cost["per_token"] / 1e9
            typer.echo(
                f"  {resolution:>4} px: {tokens:,} visual tokens, {image:,.1f} GFLOP per picture, "
                f"{token:,.3f} per generated token"
            )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The page to write")] = Path("demo/index.html"),
    model: Model = "nano",
) -> None:
    """Answer a dozen held-out pictures and write one self-contained page to look at."""
    from openpali.infer.pali import Pali
    from openpali.reports.demo import write_page

    _writable(out)
    count = write_page(Pali.from_pretrained(model), out)
    typer.echo(f"{count} pictures answered: open {out}")


@app.command()
def pack(
    family: Annotated[Path, typer.Argument(help="A TOML file that names the parts, as recipes/nano/family.toml")],
    out: Annotated[Path, typer.Option(help="Folder to write")],
) -> None:
    """Put finished runs together into one family of models, in bf16."""
    from openpali.weights.bundle import pack_family

    for part, size in pack_family(family, out).items():
        typer.echo(f"{part:12} {size / 1e6:6.1f} MB")


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="A model folder, or a finished run")],
    out: Annotated[Path, typer.Option(help="Folder to write")],
) -> None:
    """Write a model anew with int8 weights in its linear layers: half of bf16's size, for inference."""
    from openpali.weights.bundle import find_model, open_bundle, write_int8

    bundle = open_bundle(find_model(model))
    _not_onto(out, bundle.folder)
    write_int8(bundle, out)
    typer.echo(f"model written to {out}")


@app.command()
def convert(
    vision: Annotated[Path, typer.Option(help="SigLIP: a folder of transformers, or a .npz file of big_vision")],
    out: Annotated[Path, typer.Option(help="Model folder to write")],
    text: Annotated[
        Path | None, typer.Option(help="T5, mT5, umT5 or UL2 of transformers; without, SigLIP alone is adopted")
    ] = None,
    size: Annotated[str, typer.Option(help="Pixels per side, or HEIGHTxWIDTH; default: as it was trained")] = "",
    head: Annotated[str, typer.Option(help="The language model's output head: auto, tied or untied")] = "auto",
    locations: Annotated[
        int, typer.Option(help="Location tokens to add; default: coordinates are text", min=0)
    ] = 0,
    report: Annotated[bool, typer.Option("--report", help="Compare each layer with transformers")] = False,
) -> None:
    """Make a PaLI from public weights: both halves, a fresh projection, a vocabulary with mask tokens."""
    from openpali.interop.parts import adopt_siglip, assemble, parse_head, parse_size

    pixels, policy = parse_size(size), parse_head(head)
    _not_onto(out, *filter(None, (vision, text)))
    if text is None:
        parts = adopt_siglip(vision, out, size=pixels)
    else:
        parts = assemble(vision, text, out, size=pixels, head=policy, locations=locations)
    for line in parts.describe():
        typer.echo(line)
    if report:
        from openpali.interop.parity import compare

        for line in compare(parts, vision, text):
            typer.echo(line)
    typer.echo(f"model written to {out}")


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="A SigLIP or PaLI: a model folder, a finished run, or one that ships")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; of a PaLI, vision and text within it")],
) -> None:
    """Write a model's parts as checkpoints of transformers' own classes."""
    from openpali.interop.export import export as write
    from openpali.weights.bundle import find_model, open_bundle, open_family

    origin = find_model(model)
    parts = open_family(origin).parts
    _not_onto(out, origin, *parts.values())
    for name, folder in parts.items():
        if len(parts) == 1 or name in ("pali", "siglip"):
            for written in write(open_bundle(folder), out / name if len(parts) > 1 else out):
                typer.echo(f"{name} written to {written}")


def _not_onto(out: Path, *inputs: str | Path) -> None:
    """Raises ``ValueError`` where what is read would be overwritten."""
    if any(out.resolve() == Path(each).resolve() for each in inputs):
        raise ValueError(f"--out {out} is what is read: it would be overwritten, name another")


def _writable(*files: Path | None) -> None:
    """Makes the folders of files to be written, before there is work that would be lost.

    Raises:
        OSError: a file could not be written.
    """
    for file in filter(None, files):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise OSError("it is a folder")
            if not os.access(file if file.exists() else file.parent, os.W_OK):
                raise OSError("permission denied")
        except OSError as error:
            raise OSError(f"{file} cannot be written ({error}): name another") from error


def _drawable(file: Path) -> None:
    """As :func:`_writable`, for a picture, whose kind Pillow tells by the ending of its name."""
    from PIL import Image

    if Image.registered_extensions().get(file.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"{file} is no kind of picture that can be written: end its name in {', '.join(_OF_PICTURES)}"
        )
    _writable(file)


_OF_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def main() -> None:
    """Entry point: what a user can mend is one sentence on stderr."""
    standard = warnings.formatwarning

    def format_warning(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        ours = category.__module__.startswith("openpali.")
        return f"openpali: {message}\n" if ours else standard(message, category, *place, **line)

    warnings.formatwarning = format_warning
    try:
        app()
    except (ValueError, OSError) as error:
        sys.exit(f"openpali: {error}")
