"""Data and bytes: records, catalogue, histories, weights, and the versioned layouts they are kept in."""

from .runtime import prepare

prepare()
