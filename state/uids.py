"""The names that savepoints know the job by: operator uids and state names. Plain strings; Flink is not needed here.

A name here can never change: a savepoint finds its state by uid, and within the operator by state name. A new layout
of the bytes gets a new version in its codec, not a new name.

Where state is kept by user, the key is the user's pseudonym (`state.hashing`), and what the pseudonyms are made with is
part of the uid: with another key no user would be found again, so Flink must refuse the savepoint.
"""

from .hashing import pseudonym

EVENTS_SOURCE = "events-source"
ITEMS_SOURCE = "items-source"
EVENTS_PARSE = "events-parse"
ITEMS_PARSE = "items-parse"
SESSION = "session"
SIGNALS = "signals"
RANKER = "ranker"
RECOMMEND = "recommend"
CACHE = "cache"
RECEIPTS = "receipts"
SINK = "{output}-{kind}"  # of an output's name and `file` or `topic`: each sink has its own transactions and parts

# One value of bytes a user, dropped when it was not written for `job.state_ttl`: the layouts are those of
# `state.sessions` and of the learner.
SESSION_VALUE = "session"
LEARNER_VALUE = "learner"

# A journal a shard (`state.journal`), bounded by `signals.items`, by `embedding.items`, `autoencoder.items` squared and
# the ranker's features: no expiry.
SIGNALS_JOURNAL = "signals"
RANKER_JOURNAL = "ranker"

# What is known of all items, the same in each subtask: broadcast state, a journal, bounded by `catalogue.items`.
RECOMMEND_VIEW = "view"
RANKER_VIEW = "ranker-view"

# Writes that Redis has not taken yet, a map a bucket: bounded by the users that were active, and the items that went,
# within `cache.ttl`, and 16 erasures of a user.
CACHE_OUTBOX = "outbox"


def of_users(uid: str, key: bytes) -> str:
    """The uid of an operator that keeps its state under pseudonyms made with `key`.

    >>> of_users(SESSION, b"one") == of_users(SESSION, b"another")
    False
    """
    return f"{uid}-{pseudonym('', key)[:8]}"
