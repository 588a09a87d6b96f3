"""How slates reach Redis, and what waits until they do."""
