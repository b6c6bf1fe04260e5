"""What the attack on the weights finds where the answer is known: python benchmarks/privacy.py.

After dvc repro: of the run's LoRA at its checkpoints, of halves of the test patients called
members, and of whatever LORA PHOTOS pairs are named, each a LoRA and the photos it was trained on.
Prints a line each.
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
        of = membership.measure(PictureSet.read(training), PictureSet.read(TEST), target)
        auc = of["auc"]
        print(
            f"| {adapter} | {auc.value:.3f} ({auc.low:.3f} … {auc.high:.3f}) "
            f"| {of['tpr'].value:.2f} | {100 * of['false_alarms']:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
