"""What a run says of itself before it starts: what it reads and from where on, and where it writes."""

from collections.abc import Iterator

from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.local.reading import STANDARD
from riverrank.operators.cache.urls import masked
from riverrank.state.outputs import OUTPUTS

NOWHERE = "writes nowhere: give --slates FILE, --kafka HOST:PORT or --redis URL to have what it answers"


def announced(config: Config, *, goes_on: bool = False) -> Iterator[str]:
    """A line for each input, one for each output that goes anywhere; `goes_on`: topics are read on from a state.

    >>> from riverrank.jobs.config.schema import parse
    >>> document = {"files": {"events": "e.jsonl", "slates": "-"}, "redis": {"url": "redis://:a@b"}}
    >>> print(*announced(parse(document)), sep="\\n")
    reads events from e.jsonl
    writes slates to standard output
    writes slates to Redis at redis://:***@b
    """
    topics = topics_of(config)
    for stream, path in (("events", config.files.events), ("items", config.files.items)):
        if path:
            yield f"reads {stream} from {'standard input' if path == STANDARD else path}"
        elif stream in topics:
            begin = _begin(config, stream, goes_on)
            yield f"reads {stream} from topic {topics[stream]} at {config.kafka.bootstrap}, {begin}"
    written = [*_written(config, topics)]
    yield from written or [NOWHERE]


def _begin(config: Config, stream: str, goes_on: bool) -> str:
    """Where the reading of a topic begins, and where it ends."""
    group, end = config.kafka.group, " to its present end" if config.kafka.bounded else ""
    if goes_on:
        return f"as group {group}, from where the state ends"
    if stream == "items":  # whatever `kafka.start` says
        return f"as group {group}, from its beginning{end}"
    begins = {"earliest": "its beginning", "latest": "its present end", "committed": "where that group ended"}
    return f"as group {group}, from {begins[config.kafka.start]}{end}"


def _written(config: Config, topics: dict[str, str]) -> Iterator[str]:
    for name, output in OUTPUTS.items():
        if path := config.files.of(output):
            yield f"writes {name} to {'standard output' if path == STANDARD else path}"
        elif name in topics:
            yield f"writes {name} to topic {topics[name]} at {config.kafka.bootstrap}"
    if config.redis.url:
        yield f"writes slates to Redis at {masked(config.redis.url)}"
