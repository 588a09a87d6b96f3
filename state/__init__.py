"""Data and bytes: records, catalogue, histories, weights, and the versioned layouts they are kept in."""

from .runtime.environment import prepare

prepare()
