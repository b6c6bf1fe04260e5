"""Pretrains the embedded base model: `python -m stages.pretrain MODEL`."""

import shutil
from pathlib import Path

from mpox.params import TinySD
from stages import run


def main(params: TinySD, model: Path) -> None:
    from mpox import checkpoints, pretraining

    work = checkpoints.folder("tiny-sd", {"tiny-sd": params}, [])
    pretraining.pretrain(model, work, params)
    shutil.rmtree(work)


if __name__ == "__main__":
    run(main, "params/tiny-sd.yaml", TinySD)
