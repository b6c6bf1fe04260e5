"""What changed in the evaluation, and what of it is more than noise, as Markdown.

python -m stages.diff [OLD [NEW]]

OLD and NEW are anything git or DVC knows a state of the repository by: a branch, a commit, an
experiment. OLD is HEAD, NEW the working tree unless named. Stops with 1, and says why, where the
two do not compare.
"""

import json
import sys

import stages  # noqa: F401  puts this checkout's src on the path
from mpox import comparison
from mpox.errors import InputError

METRICS = "metrics/evaluation.json"


def diff(old: str = "HEAD", new: str | None = None) -> str:
    """The comparison of two revisions; None is the working tree."""
    before, after = _metrics(old), _metrics(new)
    return comparison.markdown(before, after, comparison.compare(before, after))


def _metrics(revision: str | None) -> dict:
    import dvc.api
    from dvc.exceptions import PathMissingError
    from dvc.scm import RevError

    try:
        return json.loads(dvc.api.read(METRICS, rev=revision))
    except PathMissingError:
        raise InputError(f"{revision or 'the working tree'}: has no {METRICS}") from None
    except RevError as error:
        raise InputError(str(error)) from None
    except json.JSONDecodeError as error:  # as after a merge with conflicts
        raise InputError(f"{revision or 'the working tree'}: {METRICS}: no JSON: {error}") from None


if __name__ == "__main__":
    try:
        sys.stdout.write(diff(*sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
