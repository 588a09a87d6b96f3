"""The shared linear ranker learned where its users are: what a device runs, and what sums what devices tell."""
