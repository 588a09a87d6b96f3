"""One codec for every stored layout: MessagePack arrays that begin with the number of their layout.

It knows no layout itself: each stands beside the structure it keeps, with the upgrades from those before it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

Stored = TypeVar("Stored", bound=msgspec.Struct)
Fields = list[Any]
Upgrade = Callable[[Fields], Fields]  # from the fields of one layout to those of the next, without the layout's number

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class StateRefused(ValueError):
    """What is kept can't be gone on from; the message says the mend."""


class Layout(Generic[Stored]):
    """How values of `struct` are stored: an array of the layout's number, which is the struct's tag, and its fields.

    Bytes of layout n pass through `upgrades[n]`, then `upgrades[n + 1]`, up to the newest. Fields that are added at the
    end with a default need no new layout. `unnumbered` is the layout of arrays that begin with no number, if some were
    stored so. Raises TypeError where the struct has no such tag, or an upgrade is missing.

    >>> class Mark(msgspec.Struct, array_like=True, tag=2):
    ...     at_ms: int = 0
    >>> marks = Layout("mark", Mark, {1: lambda fields: [fields[0] * 1000]})
    >>> marks.decode(marks.encode(Mark(5))), marks.decode(bytes([0x92, 1, 7])), marks.decode(None)
    (Mark(at_ms=5), Mark(at_ms=7000), Mark(at_ms=0))
    >>> marks.decode(bytes([0x92, 3, 7]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    riverrank.state.codec.StateRefused: mark of layout 3: this version reads up to 2; it was written by ...
    """

    encode: Callable[[Stored], bytes]

    def __init__(
        self,
        name: str,
        struct: type[Stored],
        upgrades: Mapping[int, Upgrade] | None = None,
        unnumbered: int | None = None,
    ) -> None:
        version = struct.__struct_config__.tag
        if not (struct.__struct_config__.array_like and isinstance(version, int) and 0 < version < 128):
            raise TypeError(f"{struct.__name__}: expected array_like, and the layout's number (1 to 127) as its tag")
        self.name = name
        self.version = version
        self.upgrades = dict(upgrades or {})
        if self.upgrades and sorted(self.upgrades) != list(range(min(self.upgrades), version)):
            raise TypeError(f"{name}: upgrades from {sorted(self.upgrades)} do not lead to layout {version} one by one")
        self.encode = _encode
        self._struct = struct
        self._unnumbered = unnumbered
        self._newest = msgspec.msgpack.Decoder(struct).decode

    def decode(self, raw: bytes | None) -> Stored:
        """The value that `raw` holds, of whatever layout; that of all defaults for None.

        Raises:
            StateRefused: `raw` is of a newer layout, of one too old to be read, or broken.
        """
        if raw is None:
            return self._struct()
        try:
            try:
                return self._newest(raw)
            except msgspec.ValidationError as fault:  # of another layout, or with other fields than it says
                return self._newest(_encode(self._upgraded(raw, fault)))
        except msgspec.DecodeError as fault:
            raise StateRefused(f"{self.name}: {fault}") from fault

    def _upgraded(self, raw: bytes, fault: msgspec.ValidationError) -> Fields:
        array = _decode(raw)
        if isinstance(array, list) and array and isinstance(array[0], int):
            layout, *fields = array
        elif isinstance(array, list) and self._unnumbered is not None:
            layout, fields = self._unnumbered, array
        else:
            raise StateRefused(f"{self.name}: no array that begins with the number of its layout") from fault
        if layout > self.version:
            raise StateRefused(
                f"{self.name} of layout {layout}: this version reads up to {self.version}; "
                "it was written by a newer riverrank"
            ) from fault
        if layout == self.version:
            raise StateRefused(f"{self.name} of layout {layout}: {fault}") from fault
        if layout not in self.upgrades:
            oldest = min(self.upgrades, default=self.version)
            raise StateRefused(
                f"{self.name} of layout {layout}: this version reads {oldest} to {self.version}; "
                "start without this savepoint"
            ) from fault
        for older in range(layout, self.version):
            try:
                fields = self.upgrades[older](fields)
            except (TypeError, ValueError, LookupError, AttributeError) as broken:
                raise StateRefused(f"{self.name} of layout {layout}: broken: {broken}") from broken
        return [self.version, *fields]
