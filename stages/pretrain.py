"""Pretrains the embedded base model: `python -m stages.pretrain MODEL`."""

from pathlib import Path

from mpox.params import TinySD
from stages import pins, run

# The weights are in git, so no other machine has to reproduce them; and AVX2 has no bf16.
pins.unpin()


def main(params: TinySD, model: Path) -> None:
    from mpox.embedded import pretraining
    from mpox.model import checkpoints

    work = checkpoints.folder("tiny-sd", {"tiny-sd": params}, [])
    pretraining.pretrain(model, work, params)
    checkpoints.finish(work)


if __name__ == "__main__":
    run(main, "params/tiny-sd.yaml", TinySD)
