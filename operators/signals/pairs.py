"""What an interaction is paired with: SIGNALS learns the pairs, SESSION sends them to their shards."""

from riverrank.operators.catalogue.tokens import cohorts
from riverrank.state.messages import Feedback


def paired_with(feedback: Feedback, window: int) -> tuple[list[str], list[str]]:
    """The last `window` items that the user of a positive interaction took before it, newest first, each once and
    without its own, and the user's cohorts; nothing for one that is not positive.
    """
    if feedback.reward <= 0:
        return [], []
    past = dict.fromkeys(feedback.history_before().taken(window))
    past.pop(feedback.event.item_id or "", None)
    return list(past), cohorts(feedback.attributes) if feedback.attributes else []
