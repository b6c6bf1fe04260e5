"""What changed in the evaluation, and what of it is more than noise, as Markdown and as a page.

python -m stages.diff [OLD [NEW]]

OLD and NEW are anything git or DVC knows a state of the repository by: a branch, a commit, an
experiment. OLD is HEAD, NEW the working tree unless named. Runs in the history that differ from
either in train.seed or generate.seed alone are its replicates: then the means are compared. The
page, data/report/diff.html, has the parameters that differ and the same seeds' pictures too. Stops
with 1, and says why, where the two do not compare.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import stages
from mpox.compare import comparison
from mpox.compare import page as page
from mpox.core import folders, table
from mpox.core.errors import InputError
from mpox.report.provenance import texts
from mpox.statistics.estimate import Metrics
from stages import replicates
from stages.replicates import LOCK, METRICS

PICTURES, PAGE = "data/synthetic", Path("data/report/diff.html")
INFLUENCES = "data/evaluation/influences.json"
TREE = "the working tree"


def diff(old: str = "HEAD", new: str | None = None) -> str:
    """The comparison of two revisions, after the page is written; None is the working tree."""
    sides = {revision: _side(revision) for revision in (old, new)}
    (before, one), (after, other) = sides[old], sides[new]
    # Two that differ in seeds alone are replicates of one another: each stands for itself.
    if not (one and other and one.repeats(other)):
        before, after = (
            replace(side, runs=replicates.find(recipe, side.metrics)) if recipe else side
            for side, recipe in ((before, one), (after, other))
        )
    folders.write(PAGE, page.build(before, after).encode())
    sys.stderr.write(f"to look at in a browser: {PAGE}\n")
    return comparison.markdown(before.metrics, after.metrics, page.rows(before, after))


def _side(revision: str | None) -> tuple[page.Side, replicates.Recipe | None]:
    """What a revision's page needs, of git's files and DVC's cache or remote, and its recipe."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from dvc_data.index import DataIndexDirError

    name = revision or TREE
    try:
        files = dvc.api.DVCFileSystem(rev=revision)
        content = files.read_bytes(METRICS)
    except FileNotFoundError:
        raise InputError(f"{name}: has no {METRICS}") from None
    except RevError as error:
        raise InputError(str(error)) from None
    metrics = Metrics.parse(content, f"{name}: {METRICS}")

    def read(path: str) -> bytes | None:
        """None where it is neither here, nor in the cache, nor in a remote."""
        try:
            return files.read_bytes(path)
        except (OSError, DvcException, DataIndexDirError):
            return None

    listed = read(f"{PICTURES}/{table.NAME}")
    drawn = table.parse(Path(PICTURES, table.NAME), listed).rows if listed else {}
    files_of = {row["seed"]: file for file, row in drawn.items()}
    side = page.Side(
        name,
        texts(_parameters(read("params.yaml") or b"{}")),
        [metrics],
        json.loads(read(INFLUENCES) or b"null"),
        {row["seed"]: row["text"] for row in drawn.values()},
        lambda seed: read(f"{PICTURES}/{files_of[seed]}"),
    )
    return side, replicates.recipe(read(LOCK) or b"", content)


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
    with stages.plain_errors():
        sys.stdout.write(diff(*sys.argv[1:]))
