"""lmms-eval (its 0.7 interface) drives an OpenPaLI model.

    lmms_eval --model openpali --model_args pretrained=FOLDER --tasks mmmu_val

lmms-eval finds :func:`manifest` through this package's entry point; no other module needs lmms-eval. Its tasks
write free text, which ``task`` turns into a prompt; a text that is already an OpenPaLI prompt is used unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from lmms_eval.api.model import lmms

from openpali.data.media.videos import is_video, load_frames
from openpali.infer.batches import chunked
from openpali.infer.generate import Decoding
from openpali.infer.pali import Pali
from openpali.infer.pipeline import Frames, cut_at
from openpali.tasks.base import Task
from openpali.tasks.registry import is_prompt

FRAMES = 16  # at most, of a video


def manifest() -> Any:
    """Describe the model to lmms-eval."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="openpali", simple_class_path=f"{__name__}.OpenPali")


class OpenPali(lmms):  # type: ignore[misc]  # untyped, and not installed by default
    """The model, as lmms-eval sees it.

    Args:
        pretrained: a model folder, a finished run, or a model that ships.
        task: name of the task whose prompt wraps free text.
        lang: language of the answers.
        batch_size: number of samples per batch.
        device: ignored; lmms-eval always passes it.
    """

    def __init__(
        self,
        pretrained: str = "nano",
        task: str = "vqa",
        lang: str = "en",
        batch_size: int | str = 1,
        device: str = "",
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ValueError(
                f"openpali takes pretrained, task, lang and batch_size, not {', '.join(sorted(unknown))}"
            )
        self.pali = Pali.from_pretrained(pretrained)
        self.task_name, self.lang, self.batch_size = task, lang, int(batch_size)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer per request ``(context, options, doc_to_visual, doc_id, task, split)``, in their order."""
        asked = [self._asked(request.args)[1:] for request in requests]  # images of all would not fit into memory
        texts = [""] * len(asked)
        order = sorted(range(len(asked)), key=lambda i: (asked[i][2], repr(asked[i][1]), len(asked[i][0])))
        for _, group in groupby(order, key=lambda i: (asked[i][2], repr(asked[i][1]))):
            places = list(group)
            _, decoding, name = asked[places[0]]
            task = self.pali.task(name)
            for some in chunked(places, self.batch_size):
                frames, prompts = [self._asked(requests[i].args)[0] for i in some], [asked[i][0] for i in some]
                found = self.pali.predict(frames, prompts, task=task, decoding=decoding)
                for i, prediction in zip(some, found, strict=True):
                    context, options = requests[i].args[:2]
                    texts[i] = cut_at(prediction.answer.text, stops_of(options)).strip()
                    self.cache_hook.add_partial("generate_until", (context, options), texts[i])
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Mean loss per token of each continuation with its end, and whether it is the greedy answer.

        Despite the name: lmms-eval's own models return losses, and its tasks of multiple choice take the least
        (``api/task.py``).
        """
        scored = []
        for request in requests:
            context, target, visual, doc_id, name, split = request.args
            doc = self.task_dict[name][split][doc_id]
            text = (target if isinstance(target, str) else str(target(doc))).strip()
            frames, prompt, task = self._worded(context, visual(doc))
            pipeline = self.pali.pipeline(self.pali.decoder_for(task.name))
            tokens = len(pipeline.tokenizer.encode(text)) + 1
            surprise = float(pipeline.log_perplexity([frames], prompt, [text])[0, 0])
            [greedy] = pipeline.predict([frames], [prompt], task=task, decoding=Decoding(max_tokens=tokens))
            scored.append((surprise, greedy.generation.finish_reason == "eos" and greedy.answer.text == text))
        return scored

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Raises ``NotImplementedError``: PaLI answers single prompts."""
        raise NotImplementedError("PaLI does not support dialogues: leave out multi-round tasks")

    def _asked(self, arguments: Sequence[Any]) -> tuple[Frames, str, Decoding, str]:
        context, options, visual, doc_id, name, split = arguments
        frames, prompt, task = self._worded(context, visual(self.task_dict[name][split][doc_id]))
        return frames, prompt, decoding_of(options, self.pali.longest_answer(task)), task.name

    def _worded(self, context: str, visuals: Iterable[Any] | None) -> tuple[Frames, str, Task]:
        """Images, prompt and task for a context."""
        frames: list[Any] = []
        for each in visuals or ():
            if isinstance(each, str) and is_video(each):
                frames += load_frames(each, FRAMES)
            else:
                frames.append(each if isinstance(each, str | np.ndarray) else each.convert("RGB"))
        if is_prompt(context, self.pali.dialect):
            return frames, context, self.pali.task(self.pali.recognise(context, len(frames)))
        task = self.pali.task(self.task_name)
        return frames, task.ask(context, lang=self.lang), task


def decoding_of(options: dict[str, Any], longest: int) -> Decoding:
    """lmms-eval's generation options as :class:`Decoding`; ``longest`` is the default length of an answer."""
    temperature = float(options.get("temperature") or 0.0)
    return Decoding(
        max_tokens=int(options.get("max_new_tokens") or longest),
        beams=1 if temperature else int(options.get("num_beams") or 1),
        temperature=temperature,
        top_p=options.get("top_p") if temperature else None,
    )


def stops_of(options: dict[str, Any]) -> list[str]:
    """lmms-eval's texts that end an answer, without empty ones."""
    until = options.get("until") or ()
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]
