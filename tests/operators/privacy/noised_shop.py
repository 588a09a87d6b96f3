"""What tests of noise share: shoppers whose feedbacks SESSION made, and what learns from them with noise."""

import random
from collections.abc import Iterable

from riverrank.operators.privacy.signals import NoisedSignals
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, NoiseSettings, SignalSettings
from riverrank.state.messages import Feedback, SignalUpdate
from riverrank.state.records.incoming import Event

HOUR = 3_600_000
T0 = 1_764_000_000_000 // (24 * HOUR) * (24 * HOUR)


def noised(epsilon: float = 8.0, secret: bytes = b"secret", **others: object) -> Behaviour:
    """Settings with that noise, of blocks of 100 interactions unless `others` say otherwise."""
    settings = {"window": 24 * HOUR, "release": 100, "batch": 20, "contributions": 4, "pairs": 2, **others}
    noise = NoiseSettings(epsilon=epsilon, key=secret, **settings)  # type: ignore[arg-type]
    return Behaviour(noise=noise, signals=SignalSettings(half_life_events=2_000, trend_half_life_events=500))


def events(n: int, users: int = 400, seed: int = 1, every_ms: int = 60_000) -> list[Event]:
    """So many clicks, of which most are on few items, in an order that is usual."""
    rng = random.Random(seed)
    found = []
    for k in range(n):
        item = int(12 * rng.random() ** 3)
        kind = "click" if rng.random() < 0.9 else "dislike"
        found.append(Event(f"e{k}", kind, f"u{rng.randrange(users)}", T0 + k * every_ms, f"i{item}"))
    return found


def feedbacks(of: Iterable[Event], behaviour: Behaviour) -> list[Feedback]:
    """What SESSION makes of events."""
    session, states, found = Session(behaviour), {}, []
    for event in of:
        accepted = session.accept(event, states.get(event.user_id))
        states[event.user_id] = accepted.state
        if accepted.feedback is not None:
            found.append(accepted.feedback)
    return found


def updates(behaviour: Behaviour, of: Iterable[Feedback], signals: NoisedSignals | None = None) -> list[SignalUpdate]:
    """All that is told while these are learned from."""
    learner, found = signals or NoisedSignals(behaviour), []
    for feedback in of:
        learner.learn(feedback)
        if learner.due():
            found += learner.updates()
    return found
