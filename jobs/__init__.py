"""Wiring: configuration, sources, sinks, topology, the command line, and the ways to run it."""

from riverrank import state  # noqa: F401 - before anything here: it prepares the process
