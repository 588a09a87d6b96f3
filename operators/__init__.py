"""Behaviour: one module per idea, plain Python and numpy. Flink appears only in `flink`."""

from riverrank import state  # noqa: F401 - before anything here: it prepares the process
