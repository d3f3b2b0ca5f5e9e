"""TFRecord files of ``tf.train.Example`` messages, read without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

# tensorflow/core/example/{example,feature}.proto. The map of features is written as what it is on the wire.
_SCHEMA = """
name: "openpali/example.proto" syntax: "proto3" package: "openpali.example"
message_type { name: "Texts"    field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED } }
message_type { name: "Floats"   field { name: "value" number: 1 type: TYPE_FLOAT label: LABEL_REPEATED } }
message_type { name: "Integers" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
message_type { name: "Feature"  oneof_decl { name: "kind" }
    field { name: "texts"    number: 1 type: TYPE_MESSAGE type_name: "Texts"    oneof_index: 0 }
    field { name: "floats"   number: 2 type: TYPE_MESSAGE type_name: "Floats"   oneof_index: 0 }
    field { name: "integers" number: 3 type: TYPE_MESSAGE type_name: "Integers" oneof_index: 0 } }
message_type { name: "Named"
    field { name: "key"   number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: "Feature" } }
message_type { name: "Features" field { name: "named" number: 1 type: TYPE_MESSAGE type_name: "Named"
    label: LABEL_REPEATED } }
message_type { name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: "Features" } }
"""
_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()).SerializeToString())
_EXAMPLE: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("openpali.example.Example"))


def read_examples(path: Path) -> list[dict[str, list[Any]]]:
    """The features of each record by name: lists of texts (UTF-8), numbers or whole numbers.

    Raises ``ValueError`` if the file is cut off or holds something else. Checksums are not compared.
    """
    return [_features(record, f"{path}, record {i}") for i, record in enumerate(_records(path), 1)]


def _records(path: Path) -> Iterator[bytes]:
    """The data of each: length (8 bytes), its checksum (4), data, its checksum (4), as TensorFlow has it."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        start = at + 12
        end = start + int.from_bytes(data[at : at + 8], "little")
        at = end + 4
        if at > len(data):
            raise ValueError(f"{path} is cut off, or no TFRecord file")
        yield data[start:end]


def _features(record: bytes, where: str) -> dict[str, list[Any]]:
    try:
        named = _EXAMPLE.FromString(record).features.named
        kinds = [(one.key, one.value.WhichOneof("kind"), one.value) for one in named]
        lists = {key: list(getattr(value, kind).value) if kind else [] for key, kind, value in kinds}
        return {key: [_text(value) for value in values] for key, values in lists.items()}
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where} is no tf.train.Example ({error})") from error


def _text(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value
