"""What a block of feedbacks tells a shard's table, as the arrays that `neighbour_lists.learn` takes."""

from collections.abc import Sequence

import numpy as np

from .neighbour_lists import COUNT, SKIP


class Steps:
    """Steps in their order, of names of items and cohorts; their rows are looked up by whoever takes the steps.

    >>> steps = Steps(np.ones(9, np.bool_), np.array([1.0, 0.5], np.float32))
    >>> steps.show("shown", 0, False, 7), steps.pair("taken", ["before"], [], COUNT, None, None, 1.0, 0.0, False, 7)
    (None, 1)
    >>> steps.names, len(steps.arrays()[0])
    (['shown', 'taken', 'before'], 2)
    """

    def __init__(self, owned: np.ndarray, amounts: np.ndarray) -> None:
        """`owned` bool and `amounts` float32, as `neighbour_lists.pair` takes them, are for steps that say none."""
        self.names: list[str] = []
        self._steps: list[tuple[int, ...]] = []
        self._numbers: list[tuple[float, float]] = []
        self._owned, self._amounts = [owned], [amounts]
        self._owned_end, self._amounts_end = len(owned), len(amounts)

    def show(self, name: str, place: int, taken: bool, now: int) -> None:
        """Count `name` at event number `now` as shown at `place`, from 0 on, and not taken; where it was `taken`, that
        is counted with the interaction.
        """
        self.pair(name, [], [], SKIP if taken else COUNT, None, None, 0.0, 0.0, False, now, place)

    def pair(
        self,
        name: str,
        past: Sequence[str],
        members: Sequence[str],
        counts: int,
        owned: np.ndarray | None,
        amounts: np.ndarray | None,
        reward: float,
        value: float,
        rated: bool,
        now: int,
        place: int = -1,
        contexts: int = 0,
    ) -> int:
        """Count an interaction with `name` as `counts` says: SKIP, COUNT or ADD; and pair it with `past`, newest first,
        and `members`, the last so many of which are `contexts`.

        Returns where `names` goes on with it.
        """
        begin, own_at, amounts_at = len(self.names), 0, 0
        if owned is not None:
            own_at = self._owned_end
            self._owned.append(owned)
            self._owned_end += len(owned)
        if amounts is not None:
            amounts_at = self._amounts_end
            self._amounts.append(amounts)
            self._amounts_end += len(amounts)
        names = self.names
        names.append(name)
        names += past
        names += members
        stated = len(past) + len(members) - contexts
        step = (counts, rated, now, begin, len(past), len(names), own_at, amounts_at, place, stated)  # by STEP
        self._steps.append(step)
        self._numbers.append((reward, value))
        return begin

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Steps, numbers, owned and amounts as `neighbour_lists.learn` takes them."""
        owned = self._owned[0] if len(self._owned) == 1 else np.concatenate(self._owned)
        amounts = self._amounts[0] if len(self._amounts) == 1 else np.concatenate(self._amounts)
        return np.array(self._steps, np.int64), np.array(self._numbers, np.float64), owned, amounts
