"""Downloads the weights that evaluation measures with: `python -m stages.weights`."""

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import stages
from mpox.checks import PUBLISHED, check_weights
from mpox.core import folders
from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import inputs

TIMEOUT = 30  # seconds without an answer


def main(features: str, file: Path) -> None:
    """What is there already, in the repository that DVC runs in a copy of too, is not fetched."""
    try:
        found = check_weights(features, file)
    except InputError:
        folders.write(file, fetch(features, file))
    else:
        if not file.exists():
            folders.write(file, found.read_bytes())


def fetch(features: str, file: str | Path, *, only_ask: bool = False) -> bytes:
    """The published bytes, checked; or none, if only asked whether they can be had.

    InputError says what to save as `file`.
    """
    address, sha256 = PUBLISHED[features]
    try:
        with urlopen(address, timeout=TIMEOUT) as answer:
            content = b"" if only_ask else answer.read()
    except (OSError, HTTPException) as error:
        reason = f"cannot be downloaded: {' '.join(str(error).split())}"
    else:
        found = hashlib.sha256(content).hexdigest()
        if only_ask or found == sha256:
            return content
        reason = f"is not what was published, but has SHA-256 {found}"
    raise InputError(
        f"evaluate.weights: {address} {reason}; elsewhere save it, with SHA-256 {sha256}, as {file}"
    )


if __name__ == "__main__":
    with stages.plain_errors(), inputs.unchanged():
        wanted = read(Path("params.yaml"), Params).evaluate
        main(wanted.features, Path(str(wanted.weights)))
