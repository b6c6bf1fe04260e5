"""Do the weights remember patients? `python -m stages.privacy TRAINING TEST LORA METRICS`.

TRAINING are the photos that the LoRA was trained on, TEST those of other patients, LORA the folder
of train_lora, METRICS the JSON file to write.
"""

import json
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, training: Path, test: Path, adapter: Path, metrics: Path) -> None:
    import numpy as np

    from mpox import checkpoints, estimate, folders, listing, seeds, table
    from mpox.diffusion import lora
    from mpox.privacy import attack, losses

    sets = {"training photos": training, "test photos": test}
    names = {name: [f.name for f in listing.find(each)[0]] for name, each in sets.items()}
    patients = {name: table.groups(each, names[name]) for name, each in sets.items()}
    gains = losses.gains(
        sets, Path(params.model.path), adapter, params.train.instance_prompt,
        params.resolution, params.seed,
    )  # fmt: skip
    members, others = (attack.by_patient(gains[name], patients[name][0]) for name in sets)
    identity = {
        "lora_sha256": folders.sha256(adapter / lora.FILE_NAME),
        "patients": "known" if all(known for _, known in patients.values()) else "unknown",
        "n_training": len(gains["training photos"]),
        "n_test": len(gains["test photos"]),
        "patients_training": len(members),
        "patients_test": len(others),
        "noises": losses.DRAWS * losses.VAL_TIMESTEPS,
    }
    rng = np.random.default_rng(seeds.derive(params.seed, "privacy"))
    found = {"identity": identity} | attack.measure(members, others, rng)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    folders.write(metrics, (json.dumps(estimate.flatten(found), indent=2) + "\n").encode())
    checkpoints.sweep("train_lora")


if __name__ == "__main__":
    run(main)
