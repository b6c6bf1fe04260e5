"""Pretrains the embedded base model: `python -m stages.pretrain MODEL WORK LOG`."""

from pathlib import Path

from mpox.params import TinySD
from stages import run


def main(params: TinySD, model: Path, work: Path, log: Path) -> None:
    from mpox import pretraining

    pretraining.pretrain(model, work, params, log)


if __name__ == "__main__":
    run(main, "params/tiny-sd.yaml", TinySD)
