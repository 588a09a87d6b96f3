"""The job with its logic emptied: the same hops, messages and sizes of state, nothing learned. What is left is Flink.

    python -m riverrank.jobs.dev.empty --events F --items F --slates F [--config C] [--kafka HOST:PORT] [--redis URL]

Messages are as real ones: SESSION is the job's own.
"""

import argparse
import sys
from typing import Any, Self

import msgspec
from riverrank.jobs.config.schema import FLAGS, load
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.flink import launch
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.operators.flink.recommend import RecommendFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.slate.recommend import Answer
from riverrank.state.messages import Feedback
from riverrank.state.records import ANSWERED, Cause, ModelInfo, Slate, Slot, to_json

STATE_BYTES = 2_000
SLOTS = 20
_CAUSES = (Cause("because_you_clicked", "i-00001", None, 4.784), Cause("like_your_history", None, None, 1.6127))
_SLOTS = tuple(
    Slot(f"i-{rank:05d}", rank, 0.99624, 0.980333, ("covisit", "cosine", "popular"), _CAUSES)
    for rank in range(1, SLOTS + 1)
)


class NoLearner:
    """SIGNALS and RANKER: learns nothing, and has nothing to say."""

    @classmethod
    def restore(cls, *_: Any) -> Self:
        return cls()

    def learn(self, feedback: Feedback) -> None: ...

    def due(self) -> bool:
        return False

    def flush(self) -> list[bytes]:
        return []


class SameSlate:
    """RECOMMEND: always the same items, and as much state as a user has."""

    def __init__(self, behaviour: Any, index: Any, **_: Any) -> None:
        self.index = index
        items = msgspec.json.encode(_SLOTS)
        self._tail = b',"items":' + items + b"}"

    def answer(self, feedback: Feedback, state: bytes | None) -> Answer:
        event = feedback.event
        if event.type not in ANSWERED:
            return Answer(state)
        version = int.from_bytes(state[:8], "little") + 1 if state else 1
        name = f"{event.user_id}:{version}"
        slate = Slate(name, event.user_id, version, event.ts, event.event_id, "warm", "control", ModelInfo(0, 0), ())
        head = to_json(slate).removesuffix(b',"items":[]}')
        return Answer(version.to_bytes(8, "little").ljust(STATE_BYTES, b"\x01"), head + self._tail, version)

    def popular(self, ts: int) -> None:
        return None


class EmptySignals(SignalsFunction):
    Logic = NoLearner  # type: ignore[assignment]


class EmptyRanker(RankerFunction):
    Logic = NoLearner  # type: ignore[assignment]


class EmptyRecommend(RecommendFunction):
    Logic = SameSlate  # type: ignore[assignment]


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m riverrank.jobs.dev.empty", description="The job without logic.")
    parser.add_argument("--config", metavar="FILE", help="TOML; default: none, all defaults")
    for flag, key in FLAGS.items():
        parser.add_argument(flag, dest=key, metavar="VALUE", help=f"sets {key}")
    given = vars(parser.parse_args(arguments))
    try:
        run(given)
    except (UsageError, Failure) as error:
        print(f"empty: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def run(flags: dict[str, Any]) -> None:
    """Run the emptied job embedded, with the flags of `riverrank run` by dotted key, and `config`."""
    config = load(flags.pop("config", None), flags)
    launch.prepare_environment()
    from riverrank.jobs.flink.topology import Operators  # noqa: PLC0415 (starts Java)

    launch.run(config, Operators(signals=EmptySignals, ranker=EmptyRanker, recommend=EmptyRecommend))


if __name__ == "__main__":
    # By its importable name: what is defined in `__main__` travels by value.
    from riverrank.jobs.dev import empty

    sys.exit(empty.main(sys.argv[1:]))
