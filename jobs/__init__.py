"""Wiring: configuration, sources, sinks, topology, the command line, and the ways to run it."""
