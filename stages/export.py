"""The LoRA for others: a folder for the Hugging Face Hub, or a file for other programs.

python -m stages.export LORA FOLDER [--accept-risk]   # after dvc repro; then: hf upload NAME FOLDER
python -m stages.export LORA FILE.safetensors         # for ComfyUI, AUTOMATIC1111: kohya's format

LORA is the folder that `train_lora` wrote; for a FILE it may also be a `checkpoint-N` in it. The
model card in FOLDER holds the measurements in metrics/. If the LoRA may reveal patients, the export
needs --accept-risk. This is not a DVC stage, because no stage depends on its output.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import stages
from mpox.core import folders
from mpox.core.errors import InputError
from mpox.params import Sampler
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
    used = _read_recorded(adapter)
    from mpox.sharing import hub

    drawing = Sampler(**{name: used["generate"][name] for name in Sampler.model_fields})
    model = Path(used["model"]["path"])
    evidence = hub.Evidence(evaluation, preparation.counts, attack, model, drawing)
    hub.write(out, adapter, evidence, accepted)


def _read_recorded(adapter: Path) -> dict[str, Any]:
    """The parameters of `generate` in dvc.lock.

    InputError unless dvc.lock records that the evaluated pictures were drawn with this very LoRA.
    """
    from ruamel.yaml import YAML

    lock, evaluation = Path("dvc.lock"), Path("metrics/evaluation.json")
    weights = adapter / folders.LORA
    if not weights.is_file():
        raise InputError(f"{adapter}: holds no {weights.name}")
    folders.check_fetched(weights)
    if not lock.is_file() or not replicates.recipe(lock.read_bytes(), evaluation.read_bytes()):
        raise InputError(f"{evaluation}: is not the file that {lock} records; run `dvc repro`")
    generate = YAML(typ="safe").load(lock)["stages"]["generate"]
    if hashlib.md5(weights.read_bytes()).hexdigest() not in [d["md5"] for d in generate["deps"]]:
        raise InputError(
            f"{weights}: {lock} records that another LoRA was measured; run `dvc repro`"
        )
    return generate["params"]["params.yaml"]


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != RISK]
    if len(words) != 2 or any(word.startswith("--") for word in words):
        sys.exit(f"usage: {__doc__}")
    with stages.plain_errors():
        main(Path(words[0]), Path(words[1]), RISK in sys.argv)
