"""The LoRA for others: a folder for the Hugging Face Hub, or a file for other programs.

python -m stages.export LORA FOLDER [--accept-risk]   # after dvc repro; then: hf upload NAME FOLDER
python -m stages.export LORA FILE.safetensors         # for ComfyUI, AUTOMATIC1111: kohya's format

LORA is the folder that `train_lora` wrote; for a FILE it may be a `checkpoint-N` in it. The FOLDER
has a card with what metrics/ says of this LoRA; where it may give patients away, a flag is asked
for. No stage of DVC's: nothing follows from either.
"""

import hashlib
import sys
from pathlib import Path

import stages
from mpox.core import folders
from mpox.core.errors import InputError
from mpox.statistics.estimate import Metrics
from stages import replicates

RISK = "--accept-risk"
METRICS = ("evaluation", "prepare", "privacy")


def main(adapter: Path, out: Path, accepted: bool) -> None:
    if out.suffix == ".safetensors":
        from mpox.sharing import kohya

        kohya.export(adapter, out)
        return
    files = (Path("metrics", f"{name}.json") for name in METRICS)
    evaluation, preparation, attack = map(Metrics.read, files)
    _check_recorded(adapter)
    from mpox.sharing import hub

    hub.write(out, adapter, evaluation, preparation.counts, attack, accepted)


def _check_recorded(adapter: Path) -> None:
    """InputError unless dvc.lock records that the evaluation is of pictures of this very LoRA."""
    from ruamel.yaml import YAML

    lock, evaluation = Path("dvc.lock"), Path("metrics/evaluation.json")
    weights = adapter / folders.LORA
    if not weights.is_file():
        raise InputError(f"{adapter}: holds no {weights.name}")
    folders.check_fetched(weights)
    if not lock.is_file() or not replicates.recipe(lock.read_bytes(), evaluation.read_bytes()):
        raise InputError(f"{evaluation}: is not what {lock} records; expected that (dvc repro)")
    drawn = YAML(typ="safe").load(lock)["stages"]["generate"]["deps"]
    if hashlib.md5(weights.read_bytes()).hexdigest() not in [dep["md5"] for dep in drawn]:
        raise InputError(f"{weights}: {lock} records that another LoRA was measured (dvc repro)")


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != RISK]
    if len(given) != 2 or any(word.startswith("--") for word in given):
        sys.exit(f"usage: {__doc__}")
    with stages.plain_errors():
        main(Path(given[0]), Path(given[1]), RISK in sys.argv)
