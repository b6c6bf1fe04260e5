"""The attack on the weights of several LoRAs: python benchmarks/privacy.py [LORA PHOTOS …]

After dvc repro: attacks the run's LoRA at each checkpoint, and each LORA that was trained on the
folder PHOTOS. Prints a line for each, with the false alarms among halves of the test patients.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox.core.picture_set import PictureSet
from mpox.params import Params, read
from mpox.privacy import membership
from mpox.privacy.losses import Target

PARAMS = read(Path("params.yaml"), Params)
TRAINING, TEST = Path("data/prepared/train"), Path("data/prepared/test")


def main() -> None:
    named = [Path(word) for word in sys.argv[1:]]
    pairs = list(zip(named[::2], named[1::2], strict=True))
    steps = sorted(Path("models/lora").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    print(
        "| LoRA | AUC | members found at one of the others | false alarms, halves of the others |"
    )
    print("|---|---|--:|--:|")
    for adapter, training in [*((each, TRAINING) for each in steps), *pairs]:
        target = Target(
            Path(PARAMS.model.path),
            adapter,
            PARAMS.train.instance_prompt,
            PARAMS.resolution,
            PARAMS.seed,
        )
        metrics = membership.attack_lora(PictureSet.read(training), PictureSet.read(TEST), target)
        auc = metrics["auc"]
        print(
            f"| {adapter} | {auc.value:.3f} ({auc.low:.3f} … {auc.high:.3f}) "
            f"| {metrics['tpr'].value:.2f} | {100 * metrics['false_alarms'].value:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
