"""The demo: a simulated shop on real services, and its display."""
