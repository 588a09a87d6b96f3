"""The names of what candidates come from and are ordered by. An id of a user or an item is never among them."""

import numpy as np

SOURCES = ("covisit", "cosine", "transition", "content", "cohort", "popular", "new")
COVISIT, COSINE, TRANSITION, CONTENT, COHORT, POPULAR, NEW = range(len(SOURCES))
SHAPED = 6  # the sources, all but the last, whose score is a feature in three shapes
FEATURES = tuple(
    [*SOURCES[:SHAPED]]
    + [f"{name}:root" for name in SOURCES[:SHAPED]]
    + [f"{name}:rank" for name in SOURCES[:SHAPED]]
    + ["likes", "new"]
)
F = len(FEATURES)
SOURCE_OF_FEATURE = tuple(SOURCES.index(name.partition(":")[0]) if name != "likes" else POPULAR for name in FEATURES)
COLD, WARM, SEGMENTS = 0, 1, 2  # users without and with a history are ordered for by weights of their own
PRIOR = np.zeros((SEGMENTS, F))
PRIOR[:, SHAPED : 2 * SHAPED] = (2.0, 1.0, 0.5, 0.5, 1.0, 0.5)  # before anything is learned: a plain mix of the roots
