"""Show which changes of the evaluation exceed noise, as Markdown and as a page.

python -m stages.diff [OLD [NEW]]

OLD and NEW are branches, commits or experiments; the defaults are HEAD and the working tree. Runs
in the history that differ from either only in train.seed or generate.seed are its replicates; if
there are any, the means are compared. The page, data/report/diff.html, also shows the parameters
that differ and the pictures of equal seeds. If the two cannot be compared, the command says why and
exits with status 1.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import stages
from mpox.compare import comparison, page
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
    """Write the page and return the Markdown; a revision of None is the working tree."""
    sides = {revision: _side(revision) for revision in (old, new)}
    (before, old_recipe), (after, new_recipe) = sides[old], sides[new]
    # Two runs that differ only in seeds are each other's replicates, so each is taken alone.
    if not (old_recipe and new_recipe and old_recipe.repeats(new_recipe)):
        before, after = (
            replace(side, runs=replicates.find(recipe, side.metrics)) if recipe else side
            for side, recipe in ((before, old_recipe), (after, new_recipe))
        )
    folders.write(PAGE, page.build(before, after).encode())
    sys.stderr.write(f"Open in a browser: {PAGE}\n")
    return comparison.markdown(before.metrics, after.metrics, page.rows(before, after))


def _side(revision: str | None) -> tuple[page.Side, replicates.Recipe | None]:
    """A revision's side of the page, from git and DVC's cache or remote, and its recipe."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from dvc_data.index import DataIndexDirError

    name = revision or TREE
    try:
        files = dvc.api.DVCFileSystem(rev=revision)
        content = files.read_bytes(METRICS)
    except FileNotFoundError:
        raise InputError(f"{name}: has no {METRICS}; expected a state after dvc repro") from None
    except RevError as error:
        raise InputError(str(error)) from None
    metrics = Metrics.parse(content, f"{name}: {METRICS}")

    def read(path: str) -> bytes | None:
        """The file's content; None if it is neither here, nor in the cache, nor in a remote."""
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
    """The parameters as plain YAML, because another revision may have another schema."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        parameters = YAML(typ="safe", pure=True).load(content.decode("utf-8", "replace"))
    except YAMLError:
        return {}
    return parameters if isinstance(parameters, dict) else {}


if __name__ == "__main__":
    with stages.plain_errors():
        sys.stdout.write(diff(*sys.argv[1:]))
