"""The configuration: what can be set, how it is read, printed and checked before a start."""
