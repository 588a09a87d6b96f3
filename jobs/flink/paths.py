"""Paths as Flink reads them."""

from pathlib import Path


def flink_path(path: str | Path) -> str:
    """A file or folder of this machine. They are no URLs: a blank is a blank, and %20 is three letters.

    >>> flink_path("/data/two words.jsonl")
    'file:/data/two words.jsonl'
    """
    return f"file:{Path(path).absolute()}"
