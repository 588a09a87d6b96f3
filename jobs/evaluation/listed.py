"""Of a slate, as the job writes it, what somebody who looks at it sees."""

import msgspec


class Slot(msgspec.Struct):
    """One item of it."""

    item_id: str


class Listed(msgspec.Struct):
    """The slate."""

    slate_id: str
    items: list[Slot]

    def ids(self) -> list[str]:
        """Its items, best first.

        >>> listed(b'{"slate_id":"u:1","version":1,"items":[{"item_id":"i-3","rank":1}]}').ids()
        ['i-3']
        """
        return [slot.item_id for slot in self.items]


listed = msgspec.json.Decoder(Listed).decode
