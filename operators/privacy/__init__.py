"""What is learned from all users, with noise: how much one user may contribute, and what is told of it."""
