"""What a job does once before its first event: no kernel is compiled, or loaded, in the middle of it."""

import json

from kernels import python

WARMED = """
import json
from riverrank.operators.settings import Behaviour
from riverrank.operators.warm import warm
from riverrank.state import table

def signatures():
    return [[str(types) for types in kernel.signatures] for kernel in (table.put, table.look_up)]

before, slates, after = signatures(), warm(Behaviour()), signatures()
rows = table.RowsById((f"i{k}", k) for k in range(2 * table.FEW))
found = [rows.find(("i7", "none", "i1000")).tolist()]
rows["none"] = 3
del rows["i7"]
found.append(rows.find(("i7", "none", "i1000")).tolist())
print(json.dumps([before, slates, after, signatures(), found]))
"""


def test_what_finds_rows_among_many_items_is_there_once_all_is_warm():
    before, slates, after, later, found = json.loads(python("-c", WARMED))
    assert before == [[], []] and slates > 0
    assert [len(signatures) for signatures in after] == [1, 1] and later == after
    assert found == [[7, -1, 1000], [-1, 3, 1000]]
