"""The examples in docstrings are true. Run here, not by --doctest-modules, which knows riverrank.state as `state`."""

import doctest
import pkgutil
from importlib import import_module

import pytest

PACKAGES = ("riverrank.state", "riverrank.operators", "riverrank.jobs")


def modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        found = pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
        names += [module.name for module in found if not module.name.endswith("__main__")]
    return names


def examples(name: str) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(import_module(name)) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted == sum(len(test.examples) for test in examples(name))


def test_examples_are_found_in_every_package_at_every_depth() -> None:
    known = {
        "riverrank.state.hashing": "hash32",
        "riverrank.operators.session.session": "Session",
        "riverrank.jobs.local.pipeline": "Pipeline",
        "riverrank.state.runtime.durations": "milliseconds",
        "riverrank.jobs.evaluation.metrics": "gini",
    }
    for name, holder in known.items():
        assert name in modules()
        assert f"{name}.{holder}" in {example.name for example in examples(name)}
