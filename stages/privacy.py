"""Does the LoRA reveal its patients? `python -m stages.privacy TRAINING TEST LORA METRICS`.

TRAINING and TEST are folders with photos that the LoRA was trained on and photos of other patients,
LORA is the folder that train_lora wrote, METRICS the JSON file to write.
"""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, training: Path, test: Path, adapter: Path, metrics: Path) -> None:
    from mpox.core.picture_set import PictureSet
    from mpox.privacy import membership
    from mpox.privacy.losses import Target

    target = Target(
        Path(params.model.path),
        adapter,
        params.train.instance_prompt,
        params.resolution,
        params.seed,
    )
    sets = PictureSet.read(training), PictureSet.read(test)
    membership.attack_lora(*sets, target).write(metrics)


if __name__ == "__main__":
    run(main)
