"""The exception for bad input, as opposed to a bug."""


class InputError(ValueError):
    """Bad input; the message names the file or key, the value, and what was expected."""


def line(name: object) -> str:
    """A file's name on one line, with line breaks and other unprintable characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))
