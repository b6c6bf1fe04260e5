"""Pretrains the embedded base model: `python -m stages.pretrain MODEL`."""

import os
import shutil
from pathlib import Path

from mpox.params import TinySD
from stages import PINNED, run

# Not pinned: the weights are in git and need not be reproduced elsewhere, and AVX2 has no bf16.
for name, value in PINNED.items():
    if os.environ.get(name) == value:
        del os.environ[name]


def main(params: TinySD, model: Path) -> None:
    from mpox import checkpoints
    from mpox.embedded import pretraining

    work = checkpoints.folder("tiny-sd", {"tiny-sd": params}, [])
    pretraining.pretrain(model, work, params)
    shutil.rmtree(work)


if __name__ == "__main__":
    run(main, "params/tiny-sd.yaml", TinySD)
