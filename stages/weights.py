"""Downloads the weights of the feature network: `python -m stages.weights [utility]`.

With the word `utility`, it downloads those of the classifier that `utility` trains.
"""

import hashlib
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import stages
from mpox.checks import PUBLISHED, check_weights, weights_key
from mpox.core import folders
from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import inputs

TIMEOUT = 30  # seconds without an answer


def main(network: str, file: Path) -> None:
    """Writes the weights to `file`; downloads them only if the main repository lacks them too."""
    try:
        existing = check_weights(network, file)
    except InputError:
        folders.write(file, fetch(network, file))
    else:
        if not file.exists():
            folders.write(file, existing.read_bytes())


def fetch(network: str, file: str | Path, *, only_ask: bool = False) -> bytes:
    """The published bytes, checked; with `only_ask`, no bytes, only whether they are reachable.

    The InputError says what to save as `file`.
    """
    address, sha256 = PUBLISHED[network]
    try:
        with urlopen(address, timeout=TIMEOUT) as answer:
            content = b"" if only_ask else answer.read()
    except (OSError, HTTPException) as error:
        reason = f"cannot be downloaded: {' '.join(str(error).split())}"
    else:
        digest = hashlib.sha256(content).hexdigest()
        if only_ask or digest == sha256:
            return content
        reason = f"is not what was published, but has SHA-256 {digest}"
    raise InputError(
        f"{weights_key(network)}: {address} {reason}; download it on another computer and save it, "
        f"with SHA-256 {sha256}, as {file}"
    )


if __name__ == "__main__":
    with stages.plain_errors(), inputs.unchanged():
        params = read(Path("params.yaml"), Params)
        if sys.argv[1:] == ["utility"]:
            main("resnet18", Path(str(params.utility.weights)))
        else:
            main(params.evaluate.features, Path(str(params.evaluate.weights)))
