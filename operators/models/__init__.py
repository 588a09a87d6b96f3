"""What learns: the ranker, the per-user River learner, ratings, drift."""
