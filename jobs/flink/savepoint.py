"""Reads a savepoint as it lies there, without a job: Flink's own classes tell of its metadata, and of the names and
kinds of its states; the entries are bytes, which nothing here makes an object of.

A canonical savepoint has one form for every state backend (FLIP-41): by key group, and in it by state, pairs of key and
value. A checkpoint has that of its backend; of its keyed state the metadata is all there is to read.
"""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickletools import genops
from typing import Any, NamedTuple

from riverrank.jobs.errors import Failure, UsageError

from .java import prepare_environment, root_cause
from .keeping import METADATA

END_OF_GROUP = 0xFFFF  # in place of the number of a state
NEXT_STATE = 0x80  # set in the first byte of the last key of a state
TTL_BYTES = 8  # before a value that expires: when it was written
NAMESPACE_BYTES = 1  # after a key: all of the job's states have the one namespace
# The operations of a pickle of bytes, one of each or none, in this order.
FRAMED = ({"PROTO"}, {"FRAME"}, {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}, {"MEMOIZE", "BINPUT"}, {"STOP"})
VALUE, MAP, BROADCAST, TIMERS, LIST = "value", "map", "broadcast", "timers", "list"


class Entry(NamedTuple):
    """One pair of an operator's state: the `key` that it belongs to, None where there is none, and of a map its `name`
    within; `value` is what the operator stored, None of a kind that is none of the job's own.
    """

    state: str
    kind: str
    key: str | None
    name: str
    value: bytes | None


class Operator(NamedTuple):
    """An operator of a savepoint. `entries` reads them, and raises Failure where they are damaged; it is None where
    they are not in the canonical form.
    """

    uid: str
    name: str
    id: str
    parallelism: int
    max_parallelism: int
    size: int
    entries: Callable[[], Iterator[Entry]] | None


def payload(pickled: bytes) -> bytes:
    """The bytes within a pickle of bytes, which is not loaded. Raises ValueError for one of anything else.

    >>> import pickle
    >>> payload(pickle.dumps(b"kept"))
    b'kept'
    >>> payload(pickle.dumps(["not", "kept"]))
    Traceback (most recent call last):
    ValueError: a pickle of something else than bytes
    """
    try:
        operations = [(operation.name, argument, at or 0) for operation, argument, at in genops(pickled)]
    except (ValueError, IndexError, TypeError) as fault:
        raise ValueError(f"no pickle: {fault}") from fault
    held, step, end = None, 0, 0
    for name, argument, at in operations:
        while step < len(FRAMED) and name not in FRAMED[step]:
            step += 1
        if step == len(FRAMED):
            raise ValueError("a pickle of something else than bytes")
        step, end = step + 1, at + 1
        held = argument if isinstance(argument, bytes) else held
    if held is None or end != len(pickled):
        raise ValueError("a pickle of something else than bytes")
    return held


def folder_of(savepoint: str) -> Path:
    """The folder that a savepoint lies in, by its path or as Flink says it.

    >>> folder_of("file:/data/savepoint-1") == folder_of("file:///data/savepoint-1") == folder_of("/data/savepoint-1")
    True
    >>> folder_of("s3://bucket/savepoint-1")
    Traceback (most recent call last):
    riverrank.jobs.errors.UsageError: s3://bucket/savepoint-1: expected a folder of this machine; copy it here first
    """
    scheme, colon, rest = savepoint.partition(":")
    if not colon or "/" in scheme:
        return Path(savepoint)
    if scheme != "file":
        raise UsageError(f"{savepoint}: expected a folder of this machine; copy it here first")
    return Path("/" + rest.lstrip("/"))


def operators(path: Path) -> list[Operator]:
    """The operators of the savepoint in the folder `path`, those with names first.

    Raises:
        UsageError: there is none.
        Failure: it is damaged, or Java cannot start.
    """
    if not (path / METADATA).is_file():
        raise UsageError(f"{path}: no savepoint is there; expected a folder with a file {METADATA}")
    prepare_environment()
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415 (it starts Java)

    jvm = get_gateway().jvm
    flink = jvm.org.apache.flink.runtime
    with _damages_told(path):
        storage = flink.state.filesystem.AbstractFsCheckpointStorageAccess
        location = storage.resolveCheckpointPointer(str(path.absolute()))
        stream = jvm.java.io.DataInputStream(location.getMetadataHandle().openInputStream())
        load = flink.checkpoint.Checkpoints.loadCheckpointMetadata
        states = load(stream, _loader(jvm), location.getExternalPointer()).getOperatorStates()
        found = [_operator(path, state, jvm) for state in _each(states)]
    return sorted(found, key=lambda operator: (not operator.uid, operator.uid, operator.id))


@contextmanager
def _damages_told(path: Path) -> Iterator[None]:
    """Whatever is read of what is no savepoint of this job, or was one, fails in one line."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 (as above)

    try:
        yield
    except Py4JError as error:
        raise Failure(f"{path}: damaged, or no savepoint of this Flink: {root_cause(error)}") from error
    except (ValueError, IndexError, OSError) as error:
        raise Failure(f"{path}: damaged, or no savepoint of riverrank: {error}") from error


def _operator(path: Path, state: Any, jvm: Any) -> Operator:
    keyed: list[Any] = []
    others: list[Any] = []
    for subtask in _each(state.getStates()):
        keyed += _each(subtask.getManagedKeyedState())
        others += _each(subtask.getManagedOperatorState())
    canonical = jvm.org.apache.flink.runtime.state.KeyGroupsSavepointStateHandle._java_lang_class
    is_read = all(canonical.isInstance(handle) for handle in keyed)
    most = state.getMaxParallelism()

    def entries() -> Iterator[Entry]:
        with _damages_told(path):
            for handle in keyed:
                yield from _keyed_entries(handle, most, jvm)
            for handle in others:
                yield from _operator_entries(handle, jvm)

    told = (state.getOperatorUid(), state.getOperatorName())
    uid, name = (str(each.get()) if each.isPresent() else "" for each in told)
    of = uid, name, state.getOperatorID().toString(), state.getParallelism(), most, state.getStateSize()
    return Operator(*of, entries if is_read else None)


def _keyed_entries(handle: Any, max_parallelism: int, jvm: Any) -> Iterator[Entry]:
    """The entries of a subtask's keyed state."""
    proxy = jvm.org.apache.flink.runtime.state.KeyedBackendSerializationProxy(_loader(jvm))
    _read_header(proxy, handle, jvm)
    if proxy.isUsingKeyGroupCompression():
        raise Failure("its key groups are compressed, which is not read: take a savepoint without snapshot compression")
    metas = [(str(meta.getName()), _kind(meta, jvm)) for meta in _each(proxy.getStateMetaInfoSnapshots())]
    prefix = 1 if max_parallelism <= 128 else 2
    offsets = handle.getGroupRangeOffsets()
    starts = [offset for group in _each(offsets.getKeyGroupRange()) if (offset := offsets.getKeyGroupOffset(group))]
    with _content(handle.getDelegateStateHandle(), jvm) as content:
        for start in starts:
            for number, key, value in _pairs(content, start):
                name, kind = metas[number]
                yield _entry(name, kind, key[prefix:], value)


def _pairs(content: Any, at: int) -> Iterator[tuple[int, bytes, bytes]]:
    """The pairs of one key group, each with the number of its state."""
    number = int.from_bytes(content[at : at + 2])
    at += 2
    while number != END_OF_GROUP:
        key, at = _sized(content, at)
        value, at = _sized(content, at)
        is_last = bool(key[0] & NEXT_STATE)
        yield number, bytes([key[0] & ~NEXT_STATE]) + key[1:], value
        if is_last:
            number = int.from_bytes(content[at : at + 2])
            at += 2


def _entry(state: str, kind: str, key: bytes, value: bytes) -> Entry:
    """A pair as what it means; of timers and of what is not the job's own nothing is looked into."""
    if kind not in (VALUE, MAP):
        return Entry(state, kind, None, "", None)
    name, at = _string(key, 1)  # after the mask of a row of one field
    if kind == VALUE:
        return Entry(state, kind, name, "", payload(_sized(value, TTL_BYTES)[0]))
    within, _ = _string(key, at + NAMESPACE_BYTES)
    return Entry(state, kind, name, within, payload(_sized(value, 1)[0]))  # after whether it is null


def _operator_entries(handle: Any, jvm: Any) -> Iterator[Entry]:
    """The entries of a subtask's broadcast state; of lists, which are Flink's own, that they are there."""
    proxy = jvm.org.apache.flink.runtime.state.OperatorBackendSerializationProxy(_loader(jvm))
    _read_header(proxy, handle, jvm)
    broadcast = {str(meta.getName()) for meta in _each(proxy.getBroadcastStateMetaInfoSnapshots())}
    with _content(handle.getDelegateStateHandle(), jvm) as content:
        for name, meta in dict(handle.getStateNameToPartitionOffsets()).items():
            starts = list(meta.getOffsets())
            if name not in broadcast:
                yield from (Entry(str(name), LIST, None, "", None) for _ in starts)
                continue
            at = starts[0] + 4
            for _ in range(int.from_bytes(content[starts[0] : at])):
                key, at = _string(content, at)
                value, at = _sized(content, at)
                yield Entry(str(name), BROADCAST, None, key, payload(value))


def _kind(meta: Any, jvm: Any) -> str:
    """What a keyed state is."""
    if meta.getBackendStateType().name() == "PRIORITY_QUEUE":
        return TIMERS
    options = jvm.org.apache.flink.runtime.state.metainfo.StateMetaInfoSnapshot.CommonOptionsKeys
    return str(meta.getOption(options.KEYED_STATE_TYPE)).lower()


def _read_header(proxy: Any, handle: Any, jvm: Any) -> None:
    stream = handle.openInputStream()
    try:
        proxy.read(jvm.org.apache.flink.core.memory.DataInputViewStreamWrapper(stream))
    finally:
        stream.close()


@contextmanager
def _content(handle: Any, jvm: Any) -> Iterator[Any]:
    """What a handle leads to, as bytes: a file of this machine is mapped, anything else is read whole."""
    in_file = jvm.org.apache.flink.runtime.state.filesystem.FileStateHandle._java_lang_class
    if in_file.isInstance(handle) and (local := Path(str(handle.getFilePath().getPath()))).is_file():
        with local.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
        return
    stream = handle.openInputStream()
    try:
        yield bytes(stream.readAllBytes())
    finally:
        stream.close()


def _each(iterable: Any) -> list[Any]:
    """What a collection of Java's holds: py4j takes but some of them for lists."""
    found, iterator = [], iterable.iterator()
    while iterator.hasNext():
        found.append(iterator.next())
    return found


def _loader(jvm: Any) -> Any:
    return jvm.java.lang.Thread.currentThread().getContextClassLoader()


def _sized(content: Any, at: int) -> tuple[bytes, int]:
    """The bytes at `at`, which begin with how many they are; and where they end. Raises ValueError past the end."""
    start = at + 4
    end = start + int.from_bytes(content[at:start], signed=True)
    if not start <= end <= len(content):
        raise ValueError(f"cut off, or damaged, at byte {at}")
    return bytes(content[start:end]), end


def _string(content: Any, at: int) -> tuple[str, int]:
    """The string at `at` as Flink writes it, and where it ends: its length and one, then its UTF-16 units, each of them
    in groups of 7 bits, the lowest first.
    """
    length, at = _number(content, at)
    units = bytearray()
    for _ in range(length - 1):
        unit, at = _number(content, at)
        units += unit.to_bytes(2, "little")
    return units.decode("utf-16-le", "surrogatepass"), at


def _number(content: Any, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(content):
            raise ValueError(f"cut off at byte {at}")
        byte = content[at]
        number |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return number, at
