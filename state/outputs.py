"""What leaves the job: one entry an output, from which flags, settings, sinks and what operators emit are made.

To add one, add an entry to `OUTPUTS` before the configuration is imported.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from .records.outgoing import to_json


class Origin(Enum):
    """What the records of an output are made of, and so which operators emit it."""

    ANSWER = "answer"  # RECOMMEND's `Answer` to one feedback
    REJECT = "reject"  # the `DeadLetter` of a record that parse or SESSION cannot use
    RECEIPT = "receipt"  # the JSON of an erasure's receipt: from CACHE, or where there is none, from RECOMMEND
    EXPORT = "export"  # the JSON of each piece of what SESSION, RECOMMEND or CACHE keeps of a user


class Output(msgspec.Struct, frozen=True):
    """One output. The settings of where it goes are `files.<field>` and `kafka.<field>`.

    Args:
        name: in flags and in the uids of its sinks, so it can never change.
        meaning: what its records are, in the plural, as help and settings say it.
        topic: the topic it has unless configured; "" is none.
        origin: what it is made of.
        records: the records (JSON) that one thing of that origin makes; None is a tombstone, which takes the place of
            all that its key had on a topic, and of which a file holds nothing.
        keyed: whether a record's key on a topic is its user's id; else it has none.
        retention_ms: how long `riverrank topics` has its topic keep records, at least; 0: as long as the broker does.
    """

    name: str
    meaning: str
    topic: str
    origin: Origin
    records: Callable[[Any], Iterable[bytes | None]]
    keyed: bool = True
    retention_ms: int = 0

    @property
    def field(self) -> str:
        """Its name as a key of the configuration.

        >>> OUTPUTS["dead-letters"].field, OUTPUTS["dead-letters"].flag
        ('dead_letters', '--dead-letters')
        """
        return self.name.replace("-", "_")

    @property
    def flag(self) -> str:
        """Its flag on the command line, which takes a path."""
        return f"--{self.name}"


SLATES = Output(
    "slates",
    "slates",
    "slates",
    Origin.ANSWER,
    lambda answer: () if answer.slate is None and not answer.erased else (answer.slate,),
)
PREDICTIONS = Output(
    "predictions",
    "predictions, made before learning",
    "",
    Origin.ANSWER,
    lambda answer: answer.predictions,
)
RECEIPTS = Output(
    "receipts",
    "receipts of erasures",
    "receipts",
    Origin.RECEIPT,
    lambda receipt: (receipt,),
)
DEAD_LETTERS = Output(
    "dead-letters",
    "records that cannot be used",
    "dead-letters",
    Origin.REJECT,
    lambda letter: (to_json(letter),),
    keyed=False,
)
EXPORTS = Output(
    "exports",
    "exports of what is kept of a user",
    "",
    Origin.EXPORT,
    lambda pieces: pieces,
    retention_ms=86_400_000,
)
PREVIEWS = Output(
    "previews",
    "previews of the slates that clicks would get",
    "",
    Origin.ANSWER,
    lambda answer: () if answer.preview is None else (answer.preview,),
    retention_ms=3_600_000,
)

# By name, in the order in which help lists them.
OUTPUTS: dict[str, Output] = {
    output.name: output for output in (SLATES, PREDICTIONS, DEAD_LETTERS, RECEIPTS, EXPORTS, PREVIEWS)
}


class Records:
    """Those outputs of an origin that go somewhere, and what is written to them.

    >>> letters = Records(Origin.RECEIPT, ["receipts", "slates"])
    >>> letters.of("u-1", b"{}")
    [('receipts', 'u-1', b'{}')]
    """

    def __init__(self, origin: Origin, wanted: Iterable[str]) -> None:
        """`wanted` are names of outputs, of any origin."""
        names = frozenset(wanted)
        self._outputs = tuple(o for o in OUTPUTS.values() if o.origin is origin and o.name in names)

    def __bool__(self) -> bool:
        return bool(self._outputs)

    def of(self, user_id: str, thing: Any) -> list[tuple[str, str, bytes | None]]:
        """Name of the output, key and value of each record that `thing` makes; None is a tombstone."""
        return [
            (output.name, user_id if output.keyed else "", value)
            for output in self._outputs
            for value in output.records(thing)
        ]
