"""Images and texts for PaLI in transformers: our own tokenizer and preprocessing behind its three classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from transformers import BatchFeature, PreTrainedTokenizer, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from openpali.data.media.images import Preprocess, to_rgb
from openpali.interop.transformers.modeling import IGNORED
from openpali.interop.transformers.names import Named
from openpali.tasks.example import Image
from openpali.text.load import load_tokenizer
from openpali.weights.files import CONFIG, TOKENIZER

CHAT_TEMPLATE = (  # PaLI answers one prompt: it is the last message's text
    "{% set content = messages[-1]['content'] %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
)


class PaliTokenizer(Named, PreTrainedTokenizer):
    """:class:`openpali.text.tokenizer.Tokenizer` as transformers calls it. Prompts end without EOS, as in training.

    The name of a special token in a text, such as ``<pad>``, becomes that token, as everywhere in transformers.

    Args:
        vocab_file: ``tokenizer.model`` of a PaLI folder.
    """

    vocab_files_names = {"vocab_file": TOKENIZER}  # noqa: RUF012 (transformers' convention)
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        self.core = load_tokenizer(vocab_file)
        self._pieces = self.core.pieces(range(self.core.vocab_size))
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}
        for name, i in (("pad", self.core.pad_id), ("eos", self.core.eos_id), ("unk", self.core.unk_id)):
            kwargs.setdefault(f"{name}_token", self._pieces[i])
        kwargs.setdefault("special_tokens_pattern", "none")
        super().__init__(**kwargs)

    @property
    def vocab_size(self) -> int:
        return self.core.vocab_size

    def get_vocab(self) -> dict[str, int]:
        return {**self._ids, **self._added_tokens_encoder}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return [self._pieces[i] for i in self.core.encode(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self.core.unk_id)

    def _convert_id_to_token(self, index: int) -> str:
        return self._pieces[index] if 0 <= index < len(self._pieces) else self._pieces[self.core.unk_id]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Special and added tokens are written as they are."""
        text, run = "", list[int]()
        for token in tokens:
            if token in self._added_tokens_encoder:
                text, run = text + self.core.decode(run) + token, []
            else:
                run.append(self._convert_token_to_id(token))
        return text + self.core.decode(run)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}{TOKENIZER}"
        self.core.save(path)
        return (str(path),)


class PaliImageProcessor(Named, BaseImageProcessor):
    """:class:`openpali.data.media.images.Preprocess` as transformers calls it.

    Args:
        height, width, policy, filter: as there.
    """

    model_input_names = ["pixel_values", "frames"]  # noqa: RUF012

    def __init__(self, height: int, width: int, **kwargs: Any) -> None:
        self.height, self.width = height, width
        self.policy = kwargs.pop("policy", Preprocess.policy)
        self.filter = kwargs.pop("filter", Preprocess.filter)
        kwargs.pop("image_processor_type", None)
        super().__init__(**kwargs)
        self.core  # noqa: B018 (an unknown policy or filter fails here)

    @property
    def core(self) -> Preprocess:
        return Preprocess(self.height, self.width, self.policy, self.filter)

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of a folder that transformers has not written, from its configuration."""
        folder = Path(pretrained_model_name_or_path)
        config = folder / CONFIG
        written = any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))
        if not written and config.is_file():
            return dict(json.loads(config.read_text("utf-8"))["preprocess"]), kwargs
        return super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "policy": self.policy,
            "filter": self.filter,
            "image_processor_type": type(self).__name__,
        }

    def __call__(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Images of any size, as Pillow images, arrays or tensors, uint8, RGB, channels first or last.

        Args:
            images: one image, a list of them, or a list of lists: the frames of each row.

        Returns:
            ``pixel_values`` float32 in -1..1, ``[B, 3, H, W]`` or of frames ``[B, F, 3, H, W]``; with the latter
            ``frames`` ``[B]``, how many are real.
        """
        rows = images if isinstance(images, list | tuple) else [images]
        if not rows:
            raise ValueError("no images were given: leave images out for text alone")
        if not isinstance(rows[0], list | tuple):
            return BatchFeature({"pixel_values": np.stack([self._pixels(r) for r in rows])}, return_tensors)
        counts = [len(row) for row in rows]
        pixels = np.zeros((len(rows), max(counts), 3, self.height, self.width), np.float32)
        for out, row in zip(pixels, rows, strict=True):
            for i, frame in enumerate(row):
                out[i] = self._pixels(frame)
        return BatchFeature({"pixel_values": pixels, "frames": np.array(counts)}, return_tensors)

    def _pixels(self, image: Any) -> NDArray[np.float32]:
        small = self.core(_to_array(image)).astype(np.float32) / np.float32(127.5) - 1
        return small.transpose(2, 0, 1)


class PaliProcessor(Named, ProcessorMixin):
    """Images and prompts -> inputs of the model. Prompts are written by the tasks, or free text.

    processor(images=image, text="Generate the alt_text in en at 0: <extra_id_0>", return_tensors="pt")
    processor(images=images, text=prompts, suffix=targets, return_tensors="pt")  # with labels, to train
    """

    def __init__(
        self, image_processor: PaliImageProcessor, tokenizer: PaliTokenizer, chat_template: str | None = None
    ) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Of a folder that transformers has not written, too, which its Auto classes cannot open."""
        parts: dict[str, Any] = {"image_processor": PaliImageProcessor, "tokenizer": PaliTokenizer}
        for name, kind in parts.items():
            kwargs.setdefault(name, kind.from_pretrained(pretrained_model_name_or_path))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        suffix: str | Sequence[str] | None = None,
        return_tensors: str | None = None,
        padding: bool | str = True,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Args:
            images: one image per prompt, a list of frames per prompt, or None for text alone.
            text: prompts, without a placeholder for images.
            suffix: target answers, to train: adds ``labels``, which end in EOS and are -100 for padding.
            return_tensors, padding, kwargs: as the tokenizer takes them.
        """
        if text is None:
            raise ValueError("text is missing: the prompt names the task, for example 'detect: red apple'")
        prompts = [text] if isinstance(text, str) else list(text)
        kwargs = {key: value for key, value in kwargs.items() if not key.endswith("_kwargs")}
        data = dict(self.tokenizer(prompts, padding=padding, **kwargs))
        if images is not None:
            data |= self.image_processor(self.image_processor.fetch_images(images))
            _require_as_many(len(data["pixel_values"]), prompts, "images: give a list of lists for several frames")
        if suffix is not None:
            suffixes = [suffix] if isinstance(suffix, str) else list(suffix)
            _require_as_many(len(suffixes), prompts, "answers")
            data["labels"] = self._labels(suffixes)
        return BatchFeature(data, tensor_type=return_tensors)

    def _labels(self, suffixes: Iterable[str]) -> NDArray[np.int64]:
        core = self.tokenizer.core
        rows = [[*core.encode(suffix), core.eos_id] for suffix in suffixes]
        labels = np.full((len(rows), max(map(len, rows))), IGNORED)
        for out, row in zip(labels, rows, strict=True):
            out[: len(row)] = row
        return labels

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "frames"]


def _require_as_many(count: int, prompts: Sequence[str], what: str) -> None:
    if count != len(prompts):
        raise ValueError(f"{len(prompts)} prompts were given with {count} {what}")


def _to_array(image: Any) -> Image:
    """RGB uint8 ``[H, W, 3]``."""
    if isinstance(image, PILImage.Image):
        return to_rgb(image)
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"an image must be RGB, uint8, [H, W, 3] or [3, H, W], not {array.dtype} {list(array.shape)}"
        )
    return np.ascontiguousarray(array)
