"""What changed in the evaluation, and what of it is more than noise, as Markdown and as a page.

python -m stages.diff [OLD [NEW]]

OLD and NEW are anything git or DVC knows a state of the repository by: a branch, a commit, an
experiment. OLD is HEAD, NEW the working tree unless named. The page, data/report/diff.html, has the
parameters that differ and the same seeds' pictures too. Stops with 1, and says why, where the two
do not compare.
"""

import csv
import io
import json
import sys
from pathlib import Path

import stages  # noqa: F401  puts this checkout's src on the path
from mpox import folders
from mpox.errors import InputError
from mpox.measures import comparison
from mpox.report import diff as page
from mpox.report.provenance import flat

METRICS, PICTURES, PAGE = "metrics/evaluation.json", "data/synthetic", Path("data/report/diff.html")
TREE = "the working tree"


def diff(old: str = "HEAD", new: str | None = None) -> str:
    """The comparison of two revisions, after the page is written; None is the working tree."""
    before, after = _side(old), _side(new)
    folders.write(PAGE, page.build(before, after).encode())
    sys.stderr.write(f"to look at in a browser: {PAGE}\n")
    return comparison.markdown(
        before.metrics, after.metrics, comparison.compare(before.metrics, after.metrics)
    )


def _side(revision: str | None) -> page.Side:
    """What a revision's page needs: of its files in git, and in DVC's cache or remote."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from dvc_data.index import DataIndexDirError

    name = revision or TREE
    try:
        files = dvc.api.DVCFileSystem(rev=revision)
        metrics = json.loads(files.read_text(METRICS))
    except FileNotFoundError:
        raise InputError(f"{name}: has no {METRICS}") from None
    except RevError as error:
        raise InputError(str(error)) from None
    except json.JSONDecodeError as error:  # as after a merge with conflicts
        raise InputError(f"{name}: {METRICS}: no JSON: {error}") from None

    def read(path: str) -> bytes | None:
        """None where it is neither here, nor in the cache, nor in a remote."""
        try:
            return files.read_bytes(path)
        except (OSError, DvcException, DataIndexDirError):
            return None

    listed = (read(f"{PICTURES}/manifest.csv") or b"").decode("utf-8", "replace")
    rows = {row["seed"]: row for row in csv.DictReader(io.StringIO(listed, newline=""))}
    return page.Side(
        name,
        flat(_parameters(read("params.yaml") or b"{}")),
        metrics,
        {seed: row["prompt"] for seed, row in rows.items()},
        lambda seed: read(f"{PICTURES}/{rows[seed]['file']}"),
    )


def _parameters(content: bytes) -> dict:
    """As YAML alone: today's schema need not fit another revision."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe", pure=True).load(content.decode("utf-8", "replace"))
    except YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    try:
        sys.stdout.write(diff(*sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
