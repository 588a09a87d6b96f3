"""The names of what candidates come from and are ordered by. An id of a user or an item is never among them."""

import numpy as np

# What proposes candidates, as slates name it, and may be switched off in the configuration.
SOURCES = (
    "covisit",
    "cosine",
    "embedding",
    "sessions",
    "content",
    "text",
    "interest",
    "cohort",
    "popular",
    "trending",
    "new",
    "repeat",
)
COVISIT, COSINE, EMBEDDING, SESSIONS, CONTENT, TEXT, INTEREST = range(7)
COHORT, POPULAR, TRENDING, NEW, REPEAT = range(7, len(SOURCES))

# The scores that a source gives: one of its own name, but co-visitation tells what came after from what came before.
SCORES = ("after", "before", *SOURCES[COSINE:NEW], "repeat")
SOURCE_OF_SCORE = (COVISIT, COVISIT, *range(COSINE, NEW), REPEAT)
SCORED = len(SCORES)
SHAPES = ("root", "share", "log")  # of a score: its root, its share of the best candidate's, the logarithm of that
FEATURES = (*(f"{score}:{shape}" for shape in SHAPES for score in SCORES), "likes", "new")
F = len(FEATURES)
LIKES, NEWNESS = F - 2, F - 1
SOURCE_OF_FEATURE = (*(len(SHAPES) * SOURCE_OF_SCORE), POPULAR, NEW)
COLD, WARM, SEGMENTS = 0, 1, 2  # users without and with a history are ordered for by weights of their own

# Before anything is learned: a plain mix of the roots.
_ROOTS = {"after": 2.0, "before": 1.0, "embedding": 1.0, "sessions": 0.5, "content": 0.5, "cohort": 1.0}
_ROOTS |= {"popular": 0.5, "repeat": 1.0}
PRIOR = np.zeros((SEGMENTS, F))
for _score, _weight in _ROOTS.items():
    PRIOR[:, FEATURES.index(f"{_score}:root")] = _weight
