"""What a command may fail with: a mistake of who runs it, or a failure of the work. Both carry one clear line."""


class UsageError(Exception):
    """A usage or configuration error: exit code 2. The message names what is wrong and how to mend it."""


class Failure(Exception):
    """The work could not be done: exit code 1. The message names the root cause and, where there is one, the mend."""
