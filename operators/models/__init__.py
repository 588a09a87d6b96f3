"""What learns: the ranker, item embeddings, the per-user River learner, ratings, drift."""
