"""One module a candidate source: its kernel, quota, prior, reason and the meaning of its setting."""
