"""What is known of all items when a user is answered: a mirror of catalogue, signals, vectors and weights."""
