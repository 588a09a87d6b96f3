"""Behaviour: one module per idea, plain Python and numpy. Flink appears only in `process`."""
