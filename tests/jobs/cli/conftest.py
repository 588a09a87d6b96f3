"""Fixtures of the tests of the command line."""

from pathlib import Path

import pytest
from console_script import click, lines
from riverrank.state.records.incoming import Item


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(*(click(f"e{n}", 1000 + n, f"i{n % 7}", f"u{n % 3}") for n in range(60))), "utf-8")
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text(lines(*(Item(item_id=f"i{n}", ts=0, title=f"Item {n}") for n in range(12))), "utf-8")
    return path
