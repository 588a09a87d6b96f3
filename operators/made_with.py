"""The settings that what is kept was made with, where it cannot follow others: SIGNALS and the index note them beside
it, and ask for them when it is restored. All else that is kept follows a changed setting, or begins anew and says so.
"""

from collections.abc import Mapping
from operator import attrgetter

from riverrank.operators.settings import Behaviour
from riverrank.state.codec import StateRefused

# Shards are keys, and no key can read what another keeps; positions in lists and lengths of vectors are those that
# updates, which may be on their way or in a log, speak of.
OF_SIGNALS = ("signals.shards", "signals.neighbours")
OF_INDEX = (*OF_SIGNALS, "embedding.dimensions")


def made_with(behaviour: Behaviour, keys: tuple[str, ...]) -> dict[str, int]:
    """What is set of `keys`.

    >>> made_with(Behaviour(), OF_SIGNALS)
    {'signals.shards': 1, 'signals.neighbours': 60}
    """
    return {key: attrgetter(key)(behaviour) for key in keys}


def require(held: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Whether what was made with `held` can go on with `wanted`; of what only one names there is nothing to ask.

    Raises:
        StateRefused: it can't; names the first setting that is another, what it was, what it is, and the mend.

    >>> require({"signals.shards": 2}, {"signals.shards": 1})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    riverrank.state.codec.StateRefused: state was made with signals.shards = 2, and it is 1 now: set it to 2, or ...
    """
    for key, value in held.items():
        if (now := wanted.get(key, value)) != value:
            raise StateRefused(
                f"state was made with {key} = {value}, and it is {now} now: set it to {value}, or start without this "
                "savepoint"
            )
