"""What items say of each other, learned from everyone."""
