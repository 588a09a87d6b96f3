"""What one user's event means: deduplication, lateness, history, the impression join, sampling."""
