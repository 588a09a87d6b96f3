"""Texts by number in one array of bytes, for kernels that write them. What a text says is the business of its owner."""

import numpy as np

SMALLEST_ROOM = 16  # bytes


class TextArena:
    """Text `number` is `length` bytes of `data`, uint8, from `begin` on, which are in row `number` of `places`, int64
    (numbers, 2): one look-up. Of length 0 for none.

    >>> arena = TextArena()
    >>> arena.put(2, b"one"), arena.put(2, b"another"), arena.get(2), arena.get(1)
    (None, None, b'another', b'')
    """

    def __init__(self) -> None:
        self.data = np.zeros(1024, np.uint8)
        self.used = 0  # bytes of data
        self.places = np.zeros((0, 2), np.int64)
        self._rooms = np.zeros(0, np.int64)

    def fit(self, numbers: int) -> None:
        """Make room for numbers below `numbers`."""
        more = numbers - len(self.places)
        if more > 0:
            self.places = np.append(self.places, np.zeros((more, 2), np.int64), axis=0)
            self._rooms = np.append(self._rooms, np.zeros(more, np.int64))

    def put(self, number: int, text: bytes) -> None:
        """Make `text` that of `number`: in the room of the one before where it fits, else at the end of the data.

        A room is a power of two, so that what is left behind is at most as much as what is held.
        """
        if number >= len(self.places):
            self.fit(max(16, 2 * number))
        if len(text) > self._rooms[number]:
            room = max(SMALLEST_ROOM, 1 << (len(text) - 1).bit_length())
            if self.used + room > len(self.data):
                self.data = np.append(self.data, np.zeros(max(room, len(self.data)), np.uint8))
            self.places[number, 0], self._rooms[number] = self.used, room
            self.used += room
        begin = self.places[number, 0]
        self.data[begin : begin + len(text)] = np.frombuffer(text, np.uint8)
        self.places[number, 1] = len(text)

    def get(self, number: int) -> bytes:
        """The text of `number`, empty where there is none."""
        if number >= len(self.places):
            return b""
        begin, length = self.places[number]
        return self.data[begin : begin + length].tobytes()

    def forget(self) -> None:
        """Hold no text, in the same room."""
        self.places[:, 1] = 0
