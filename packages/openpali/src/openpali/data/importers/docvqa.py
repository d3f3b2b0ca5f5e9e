"""DocVQA and InfographicVQA: the JSON files of the Robust Reading Competition."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import AliasChoices, BaseModel, Field

from openpali.data.importers.base import Entry, Imported, Request, Unusable, read_entries, read_json


class _Question(BaseModel):
    id: int | str = Field("", alias="questionId")
    question: str
    image: str = Field(validation_alias=AliasChoices("image_local_name", "image"))
    answers: list[str] = []
    question_types: list[str] = []


def read(request: Request, log: Imported) -> Iterator[Entry]:
    """One sample per question. The path is a file like ``train_v1.0_withQT.json``."""
    path, whole = request.path, read_json(request.path, "DocVQA", "data")
    names = ("", "documents", "spdocvqa_images", "infographicsvqa_images", "images")
    for where, entry in read_entries(_Question, whole["data"], f"{path.name}, data", log):
        with log.counting(where):
            if not entry.question.strip():
                raise Unusable("question without a text", "it is blank")
            answers = [answer for answer in entry.answers if answer.strip()]
            if not answers:  # as in the test split
                raise Unusable("question without an answer", entry.question)
            fields = {"key": str(entry.id), "question": entry.question, "answers": answers}
            if entry.question_types:
                fields["question_kind"] = ", ".join(entry.question_types)
            yield Entry(where, entry.image, [path.parent / name for name in names], fields)
