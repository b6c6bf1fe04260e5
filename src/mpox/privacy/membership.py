"""The membership attack on a LoRA, from folders of photos to numbers."""

from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import folders, listing, table
from mpox.core.seeds import derive
from mpox.model import lora
from mpox.privacy import attack, losses


def measure(
    training: Path,
    test: Path,
    model: Path,
    adapter: Path,
    instance_prompt: str,
    resolution: int,
    seed: int,
) -> dict[str, Any]:
    """What `adapter`, trained on `training`, gives away of its photos, beside those in `test`.

    As attack.measure has it, patients as the unit, and in `identity` what it is of. Raises
    InputError for a LoRA that does not fit and for a folder without pictures.
    """
    sets = {"training photos": training, "test photos": test}
    gains = losses.gains(sets, model, adapter, instance_prompt, resolution, seed)
    names = {name: [f.name for f in listing.find(each)[0]] for name, each in sets.items()}
    patients = {name: table.groups(each, names[name]) for name, each in sets.items()}
    members, others = (attack.by_patient(gains[name], patients[name][0]) for name in sets)
    identity = {
        "lora_sha256": folders.sha256(adapter / lora.FILE_NAME),
        "patients": "known" if all(known for _, known in patients.values()) else "unknown",
        "n_training": len(gains["training photos"]),
        "n_test": len(gains["test photos"]),
        "patients_training": len(members),
        "patients_test": len(others),
        "noises": losses.NOISES,
    }
    rng = np.random.default_rng(derive(seed, "privacy"))
    return {"identity": identity} | attack.measure(members, others, rng)
