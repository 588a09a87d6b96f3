"""What reads the cache and writes to the topics on a person's behalf: get, explain, erase, export."""
