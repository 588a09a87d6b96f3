"""What is clicked of a list that was shown: what the list tells of it, and a global model of it."""
