"""What the service counts of itself, as Prometheus reads it. Knows no request: who serves one tells of it."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counts of one service. Labels have few values: no user, item or path is among them."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "riverrank_serve_requests", "requests that were answered", ("operation", "status"), registry=registry
        )
        self._seconds = Histogram(
            "riverrank_serve_request_seconds", "time of a request", ("operation",), buckets=SECONDS, registry=registry
        )
        self._open = Gauge("riverrank_serve_requests_open", "requests that are being answered", registry=registry)
        self._fallbacks = Counter("riverrank_serve_fallbacks", "popular slates in place of own ones", registry=registry)
        self._unreadable = Counter(
            "riverrank_serve_unreadable", "values in Redis that are not what they should be", registry=registry
        )
        self._records = Counter(
            "riverrank_serve_records",
            "records that were given, by what became of them: accepted, or why not",
            ("stream", "outcome"),
            registry=registry,
        )

    def watch(self, ready: Mapping[str, Callable[[], bool]], items: Callable[[], int]) -> None:
        """Ask these whenever somebody reads."""
        held = Gauge("riverrank_serve_ready", "whether a part is ready", ("part",), registry=self._registry)
        for part, is_ready in ready.items():
            held.labels(part).set_function(is_ready)
        count = Gauge("riverrank_serve_catalogue_items", "items of the catalogue in memory", registry=self._registry)
        count.set_function(items)

    def begin(self) -> None:
        """A request is being answered."""
        self._open.inc()

    def end(self, operation: str, status: int, seconds: float) -> None:
        """It was answered."""
        self._open.dec()
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)

    def fall_back(self) -> None:
        """A user got the popular slate."""
        self._fallbacks.inc()

    def find_unreadable(self) -> None:
        """Redis holds something else than it should."""
        self._unreadable.inc()

    def take(self, stream: str, outcome: str, count: int = 1) -> None:
        """Records came by `stream`, events or items."""
        self._records.labels(stream, outcome).inc(count)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
