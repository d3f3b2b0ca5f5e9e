"""Annotations in other formats -> JSONL (docs/data.md): one file per format, listed in ``registry``."""
