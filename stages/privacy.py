"""Do the weights remember patients? `python -m stages.privacy TRAINING TEST LORA METRICS`.

TRAINING are the photos that the LoRA was trained on, TEST those of other patients, LORA the folder
of train_lora, METRICS the JSON file to write.
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
    measures = membership.measure(PictureSet.read(training), PictureSet.read(test), target)
    measures.write(metrics)


if __name__ == "__main__":
    run(main)
