"""DocVQA and InfographicVQA: the JSON files of the Robust Reading Competition."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AliasChoices, BaseModel, Field

from openpali.data.importers.base import Found, ImageFinder, Imported, Request, read_entry, read_json

TITLE = "DocVQA"


class _Question(BaseModel):
    id: int | str = Field("", alias="questionId")
    question: str
    image: str = Field(validation_alias=AliasChoices("image_local_name", "image"))
    answers: list[str] = []
    question_types: list[str] = []


def read(request: Request, log: Imported) -> Iterator[Found]:
    """One sample per question. The path is a file like ``train_v1.0_withQT.json``."""
    request.refuse_split(f"a file of {TITLE}")
    path, whole = request.path, read_json(request.path, TITLE, "data")
    names = ("", "documents", "spdocvqa_images", "infographicsvqa_images", "images")
    finder = ImageFinder(request, [path.parent / name for name in names])
    for i, value in enumerate(whole["data"]):
        where = f"{path.name}, data[{i}]"
        entry = read_entry(_Question, value, where, log)
        if entry is None:
            continue
        answers = [answer for answer in entry.answers if answer.strip()]
        if not entry.question.strip():
            log.add("question without a text", where)
        elif not answers:  # as in the test split
            log.add("question without an answer", f"{where}: {entry.question}")
        elif opened := finder.find(entry.image, where, log):
            fields = {"key": str(entry.id), "question": entry.question, "answers": answers}
            if entry.question_types:
                fields["question_kind"] = ", ".join(entry.question_types)
            yield Found(opened[0], fields)
