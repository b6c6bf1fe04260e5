"""The one exception that means "the user gave something wrong"."""


class InputError(ValueError):
    """Bad input; the message names the file or key, the value, and what was expected."""


def line(name: object) -> str:
    """A file's name on one line: what does not print, as a line break, as its escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))
