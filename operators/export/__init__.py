"""What each operator keeps of one user, in words: what an `export` event is answered with."""
