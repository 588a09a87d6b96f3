"""Moved: see `retrieval` and `context`."""

from .context import Context, context_of
from .retrieval import Candidates, Retriever
from .sources.covisit import RECENCY as PAIR_RECENCY

__all__ = ["PAIR_RECENCY", "Candidates", "Context", "Retriever", "context_of"]
