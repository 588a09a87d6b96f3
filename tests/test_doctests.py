"""The examples in docstrings are true. Run here, not by --doctest-modules, which knows riverrank.state as `state`."""

import doctest
import pkgutil
from importlib import import_module

import pytest

PACKAGES = ("riverrank.state", "riverrank.operators", "riverrank.jobs")


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        names += [found.name for found in pkgutil.iter_modules(import_module(package).__path__, f"{package}.")]
    return names


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_docstrings_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in modules() for test in finder.find(import_module(name)) if test.examples]
    assert len(found) >= 3, found
