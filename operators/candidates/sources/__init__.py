"""One module a candidate source: its kernel, quota, prior, reason and the meaning of its setting."""

# many: a module for each source there is; they share nothing but `source.Source`
