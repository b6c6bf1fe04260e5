"""The one exception that means "the user gave something wrong"."""


class InputError(ValueError):
    """Bad input; the message names the file or key, the value, and what was expected."""
