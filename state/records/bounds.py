"""How much a record may hold. What is beyond is a dead letter, unless it is said otherwise."""

MAX_RECORD_BYTES = 1 << 20
MAX_ID_BYTES = 256
MAX_IMPRESSION_ITEMS = 1000
MAX_NUMBER = 1e6  # of a `value` and of a component of an embedding, either way
MAX_COMPONENTS = 4096  # of an embedding
MAX_PROFILE_BYTES = 8 * 1024  # of `attributes` as JSON
MAX_CONTEXT_BYTES = 1024  # as JSON
MAX_SLATE_ID_BYTES = 320
MAX_TS = 253_402_300_799_999  # the last millisecond of the year 9999
MAX_DEPTH = 64  # levels of nesting in `context` and `attributes`


def fits(text: str, most: int) -> bool:
    """Whether `text` is at most `most` bytes of UTF-8."""
    length = len(text)
    return length <= most and (4 * length <= most or len(text.encode("utf-8", "surrogatepass")) <= most)
