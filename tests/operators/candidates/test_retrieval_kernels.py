"""The kernels of retrieval: each has a twin in plain Python, is compiled once, and keeps within its arrays."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import test_autoencoder_scores
import test_context
import test_context_scores
import test_features
import test_index_kernels
import test_merging
import test_reached
import test_selection
import test_sources
from kernels import kernels_of, missing_twins, python, twins_of
from riverrank.operators.candidates.reached import add
from riverrank.state.runtime.environment import cache_dir

MODULES = (test_context, test_features, test_merging, test_reached, test_selection)
TWINS = twins_of(MODULES)


def test_every_kernel_has_a_twin():
    assert missing_twins("candidates", TWINS, *map(vars, MODULES)) == set()


# Compiled as they are meant to be.

RETRIEVAL = ("candidates", "candidates/sources", "index")


def test_a_kernel_is_compiled_for_one_set_of_types():
    """Arrays that may not be written to, columns of others and int64 for int32 are other types, and a kernel that is
    asked with them is compiled once more: seconds, in the middle of a job. What only other kernels ask is compiled with
    them.
    """
    streams = "300", "all-kinds", "rules", "thompson", "bounds", "domains"
    answer = json.loads(python("tests/kernels.py", *streams))
    if answer["misses"]:
        answer = json.loads(python("tests/kernels.py", *streams))
    types = {name: of for name, of in answer["signatures"].items() if name.startswith(("candidates.", "index."))}
    expected = {f"{folder.replace('/', '.')}.{name}" for folder in RETRIEVAL for name in kernels_of(folder)}
    assert answer["slates"] > 800 and answer["misses"] == 0
    assert types.keys() == expected
    assert {name: of for name, of in types.items() if len(of) > 1} == {}
    asked = {name for name, of in types.items() if of}
    assert {"candidates.merging.merge", "candidates.selection.fill_table", "index.ranked_lists.count_ranked"} <= asked
    assert len(asked) > 25


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" not in os.environ, reason="asked by the test that follows")
def test_an_access_out_of_bounds_is_an_error():
    rows, slot, scores = np.zeros(2, np.int32), np.full(9, -1, np.int32), np.zeros((1, 1), np.float32)
    with pytest.raises(IndexError):
        add(np.array([1, 2, 3], np.int32), np.ones(3, np.float32), 0, slot, rows, scores, 0)


def test_kernels_read_and_write_within_their_arrays():
    """Compiled code does not look: what it writes beside an array is another's memory. Compiled to look, and kept
    apart, are the kernels that read or write where data says.
    """
    looking = (
        (MODULES, ("features", "merging", "reached", "selection")),
        (test_index_kernels.MODULES, ("apply_updates", "pool", "ranked_lists", "vocabulary")),
        ((test_autoencoder_scores,), ("autoencoder",)),
        ((test_context_scores,), ("context",)),
        ((test_sources,), ("cohort", "content.wish", "covisit.reach", "covisit.strongest_list")),
        ((test_sources,), ("embedding.likeliness", "repeat.reach")),
    )
    asked = {
        "candidates/test_retrieval_kernels.py::test_an_access_out_of_bounds_is_an_error",
        "slate/test_explain.py::test_the_reasons_are_the_largest_parts",  # of explain.name and explain.largest
    }
    for modules, kernels in looking:
        for module in modules:
            file = "/".join(Path(module.__file__).parts[-2:])
            asked |= {f"{file}::{test.__name__}" for name, test in module.TWINS.items() if name.startswith(kernels)}
    checked = {"NUMBA_BOUNDSCHECK": "1", "RIVERRANK_CACHE": str(cache_dir() / "checked")}
    written = python(
        "-m", "pytest", "-p", "no:cacheprovider", *(f"tests/operators/{test}" for test in sorted(asked)), **checked
    )
    assert len(asked) > 15 and "skipped" not in written and "100%" in written
