"""The one exception whose message is meant for a person: it is shown without a stack, and the run exits with 1."""


class UserError(Exception):
    """Something that the user can mend.

    The message says what was wrong, where (config key, or file and line) and what to do, in one screen.
    """
