"""What travels between operators and out of the job, and how it is kept: types, tags and state descriptors of Flink."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from pyflink.common import Row, Time, Types
from pyflink.datastream import OutputTag, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor
from riverrank.operators.metrics import Counts, Metrics
from riverrank.operators.tally import TallyFile
from riverrank.state.messages import LAST
from riverrank.state.outputs import Origin, Records
from riverrank.state.records.decoding import Reject

from .arrivals import Arrival, letter_of

# Between operators bytes travel as byte[], which pemja hands over as they are. In state the same type comes back as a
# tuple of numbers; a pickled byte array does not.
BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
KEYED = Types.ROW([Types.STRING(), BYTES])  # the key, and what the function is called with
LINE = Types.STRING()
LINE_ENCODING = "ISO-8859-1"  # of its characters each is one byte of the line: nothing to be looked at on the way
STORED = Types.PICKLED_BYTE_ARRAY()

END_OF_INPUT = 2 * LAST  # an event time that only the last watermark reaches
ONE_SHARD = "0"  # the key of what goes to RANKER, and to SIGNALS where it is one learner
PAIRS = OutputTag("pairs", KEYED)
SAMPLE = OutputTag("sample", KEYED)


@cache
def lines_of(output: str) -> OutputTag:
    """Where the records of that output leave an operator as lines of a file."""
    return OutputTag(f"{output}-lines", LINE)


@cache
def records_of(output: str) -> OutputTag:
    """Where they leave it with a key, for a topic."""
    return OutputTag(f"{output}-records", KEYED)


class Outputs(msgspec.Struct, frozen=True):
    """Names of the outputs that go somewhere: as lines of a file, as records of a topic. In the folder `tallies`, if
    any, is written what became of the records of the inputs.
    """

    lines: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    tallies: str = ""

    def __contains__(self, output: str) -> bool:
        return output in self.lines or output in self.records


class Emitter:
    """Emits the outputs of one origin, and only those that go somewhere: a tag without a consumer is an error."""

    def __init__(self, outputs: Outputs, origin: Origin) -> None:
        self._records = Records(origin, outputs.lines | outputs.records)
        self._lines = {output: lines_of(output) for output in outputs.lines}
        self._keyed = {output: records_of(output) for output in outputs.records}

    def __bool__(self) -> bool:
        return bool(self._records)

    def emit(self, user_id: str, thing: Any) -> list[tuple[OutputTag, Any]]:
        """What an operator yields for `thing`, which is of that origin and about that user."""
        emitted: list[tuple[OutputTag, Any]] = []
        for output, key, value in self._records.of(user_id, thing):
            if output in self._lines and value is not None:
                emitted.append((self._lines[output], value.decode(LINE_ENCODING)))
            if output in self._keyed:
                emitted.append((self._keyed[output], Row(key, value)))
        return emitted


def subtask_of(runtime_context: RuntimeContext) -> int:
    """The index of this subtask. PyFlink's own call asks Java for a method that Flink 2 no longer has."""
    return int(runtime_context._runtime_context.getTaskInfo().getIndexOfThisSubtask())


def subtasks_of(runtime_context: RuntimeContext) -> int:
    """How many subtasks the operator has."""
    return int(runtime_context._runtime_context.getTaskInfo().getNumberOfParallelSubtasks())


def tally_file(outputs: Outputs, uid: str, runtime_context: RuntimeContext) -> TallyFile:
    """That of this subtask of the operator `uid`."""
    return TallyFile(Path(outputs.tallies) / f"{uid}-{subtask_of(runtime_context)}" if outputs.tallies else None)


class Letters:
    """The dead letters of a subtask of the operator `uid`, and the tally of what it takes."""

    def __init__(self, outputs: Outputs, uid: str, runtime_context: RuntimeContext) -> None:
        self._emitter = Emitter(outputs, Origin.REJECT)
        self.counts, self._metrics = Counts(), Metrics(runtime_context.get_metrics_group())
        self._file = tally_file(outputs, uid, runtime_context)
        self.tally = self._file.tally

    def refuse(self, arrival: Arrival, reject: Reject, topic: str) -> list[tuple[OutputTag, Any]]:
        """What an operator yields for a record of that topic that cannot be used."""
        self.tally.refuse(topic, arrival.offset, reject)
        self.counts.add("dead_letters", reject.reason)
        self.tell(at_once=True)
        return self._emitter.emit("", letter_of(arrival, reject, topic))

    def tell(self, *, at_once: bool = False) -> None:
        """Write the tally, and tell of the counts, if it is time to."""
        self._file.write()
        self._metrics.tell(self.counts, at_once=at_once)


def keep(state: Any, held: bytes | None, new: bytes | None) -> None:
    """Write `new` to a ValueState that holds `held`; None clears it."""
    if new is None:
        if held is not None:
            state.clear()
    elif new is not held:
        state.update(new)


def value_state(name: str, ttl_ms: int) -> ValueStateDescriptor:
    """A value of bytes a key, dropped when it was not written for `ttl_ms` milliseconds."""
    ttl = (
        StateTtlConfig.new_builder(Time.milliseconds(ttl_ms))
        .set_update_type(StateTtlConfig.UpdateType.OnCreateAndWrite)
        # As by default for state on the heap. The default itself also makes a `Duration` for RocksDB, and that by
        # Flink's client, which inside a TaskManager starts another Java, for seconds and for good.
        .disable_cleanup_in_background()
        .cleanup_incrementally(1, False)
        .cleanup_full_snapshot()  # of users who do not come back nothing is in a checkpoint
    )
    descriptor = ValueStateDescriptor(name, STORED)
    descriptor.enable_time_to_live(ttl.build())
    return descriptor


def map_state(name: str) -> MapStateDescriptor:
    """A map of strings to bytes a key; as broadcast state, one for all."""
    return MapStateDescriptor(name, Types.STRING(), STORED)


class MapEntries:
    """`state.journal.Entries` over a keyed MapState; it holds the entries of whatever key is current."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def put(self, key: str, value: bytes) -> None:
        self._state.put(key, value)

    def remove(self, key: str) -> None:
        self._state.remove(key)

    def items(self) -> Iterator[tuple[str, bytes]]:
        return iter(list(self._state.items()))
