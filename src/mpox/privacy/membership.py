"""The membership attack on a LoRA, from photos to numbers."""

import numpy as np

from mpox.core import folders
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.model import lora
from mpox.privacy import attack, losses
from mpox.privacy.losses import Target
from mpox.statistics.estimate import ALL, Metrics


def attack_lora(training: PictureSet, test: PictureSet, target: Target) -> Metrics:
    """What a LoRA reveals of the patients in `training`, compared with those in `test`.

    Raises InputError for an empty set and for a LoRA that does not fit the base model.
    """
    gains = losses.gains({"training photos": training, "test photos": test}, target)
    members = attack.by_patient(gains["training photos"], training.patients)
    others = attack.by_patient(gains["test photos"], test.patients)
    identity = {
        "lora_sha256": folders.sha256(target.adapter / lora.FILE_NAME),
        "patients": "known" if training.known and test.known else "unknown",
        "n_training": len(training),
        "n_test": len(test),
        "patients_training": len(members),
        "patients_test": len(others),
        "noises": losses.NOISES,
    }
    rng = np.random.default_rng(derive(target.seed, "privacy"))
    measures = attack.measure_separation(members, others, rng)
    return Metrics({ALL: measures}, identity, headlines={"attack_auc": measures["auc"].value})
