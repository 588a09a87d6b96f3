"""Fixtures of the tests of data sets."""

from pathlib import Path

import pytest
from converted import Files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An empty folder for sources and what they become."""
    return Files(tmp_path)
