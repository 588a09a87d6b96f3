"""What an interaction is paired with: SIGNALS learns the pairs, SESSION sends them to their shards."""

from riverrank.operators.catalogue.tokens import cohorts, contexts
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import Feedback


def paired_with(feedback: Feedback, behaviour: Behaviour) -> tuple[list[str], list[str]]:
    """The last `signals.window` items that the user of a positive interaction took before it, newest first, each once
    and without its own, and the user's cohorts, with the lists of the context that it happened in; nothing for one that
    is not positive, or that goes on with a story, whose beginning was paired.
    """
    if not feedback.is_choice:
        return [], []
    past = dict.fromkeys(feedback.history_before().taken(behaviour.signals.window))
    past.pop(feedback.event.item_id or "", None)
    members = cohorts(feedback.attributes, behaviour.cohorts.attributes) if feedback.attributes else []
    if feedback.event.context:
        members += contexts(feedback.event.context)
    return list(past), members
