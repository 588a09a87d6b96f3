"""The kernels of the index: each has a twin in plain Python."""

import test_apply_updates
import test_item_index
import test_lists
import test_pool
import test_ranked_lists
import test_vocabulary
from kernels import missing_twins, twins_of

MODULES = (test_apply_updates, test_item_index, test_lists, test_pool, test_ranked_lists, test_vocabulary)
TWINS = twins_of(MODULES)


def test_every_kernel_has_a_twin():
    assert missing_twins("index", TWINS, *map(vars, MODULES)) == set()
