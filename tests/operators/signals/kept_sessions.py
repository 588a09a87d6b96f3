"""What tests of kept sessions share: whether the sessions and their index tell the same."""

import numpy as np
from riverrank.operators.signals.sessions import Sessions


def check(sessions: Sessions) -> None:
    """The index tells of items that the sessions hold, once each, and of no others; RECENT or fewer: of all."""
    table = sessions.table
    listed = {(row, s - 1) for row, slots in enumerate(sessions.recent.tolist()) for s in slots if s}
    assert len(listed) == np.count_nonzero(sessions.recent)
    held = {(row, s) for s in table.rows.values() for row in table.items[s].tolist() if row >= 0}
    assert listed <= held
    rows = [row for row, _ in held]
    assert {pair for pair in held if rows.count(pair[0]) <= 10} <= listed
    for items in table.items[list(table.rows.values())].tolist():
        known = [row for row in items if row >= 0]
        assert len(set(known)) == len(known)
