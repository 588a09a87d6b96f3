"""What an item says of itself: tokens, vectors, and which items to ask a new user about."""
