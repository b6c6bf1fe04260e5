"""A folder for the Hugging Face Hub: the LoRA, and a card that carries the run's evidence."""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard

from mpox.core import folders
from mpox.core.errors import InputError
from mpox.model import lora
from mpox.report import privacy, words
from mpox.report.measures import MEASURES
from mpox.statistics.estimate import Metrics
from mpox.training import card

COPIES = 0.05  # share of synthetic pictures that may be copies, as far as their number can tell
TEXT = """
## What the run measured

{counts}

{sentences}

| measure | value | interval of 95 % | real photos in their place |
|---|--:|---|--:|
{rows}

Every number compares only with one of the same test photos and features.

## May it be shared?

{copies} {members} Neither is proof: what was tried are two ways of looking, and a better attack
may find more.{accepted}

## Intended use and limits

Research on synthetic pictures, by people who know how they were made. Not for diagnosis, not for
teaching what mpox looks like without saying that the pictures are synthetic, not as the only data
that a classifier is tested on. What the training photos lack, in skin tones, sites or stages, these
pictures lack too. No photo, and no number of a single patient, is in this folder.
"""


def check(evaluation: Metrics, attack: Metrics) -> list[str]:
    """Why a LoRA should not be shared, a line a reason; none where both numbers are low enough."""
    found, copied, auc = [], evaluation.get("copy_rate"), attack["auc"]
    if copied is None:
        found.append("nothing was measured of copies")
    elif copied.high > COPIES:
        found.append(
            f"copy_rate may be as high as {copied.high:.3f}, above {COPIES}: more of the "
            "pictures may be copies of training photos"
        )
    if auc.high > privacy.BOUND:
        found.append(
            f"auc of metrics/privacy.json may be as high as {auc.high:.3f}, above {privacy.BOUND}: "
            "anyone with the weights may find out whose photos were used"
        )
    return found


def write(
    folder: Path,
    adapter: Path,
    evaluation: Metrics,
    preparation: Mapping[str, float],
    attack: Metrics,
    accepted: bool,
) -> None:
    """`folder`, which must not be there: the weights and README.md, ready for `hf upload`.

    The arguments after `adapter` are of metrics/evaluation.json, prepare.json (its counts) and
    privacy.json. Raises InputError for a LoRA that they are not of, and where `check` has reasons
    that were not `accepted`.
    """
    weights = adapter / lora.FILE_NAME
    if not weights.is_file():
        raise InputError(f"{adapter}: holds no {lora.FILE_NAME}")
    if attack.identity["lora_sha256"] != folders.sha256(weights):
        raise InputError(
            f"{weights}: metrics/privacy.json is of another LoRA; expected the one of this run "
            "(dvc repro)"
        )
    reasons = check(evaluation, attack)
    if reasons and not accepted:
        raise InputError(
            "\n".join([f"{adapter}: not to be shared without --accept-risk:", *reasons])
        )
    folders.check_vacant(folder)
    with folders.whole(folder) as made:
        (made / lora.FILE_NAME).write_bytes(weights.read_bytes())
        _card(adapter, evaluation, preparation, attack, reasons).save(made / "README.md")


def _card(
    adapter: Path,
    evaluation: Metrics,
    preparation: Mapping[str, float],
    attack: Metrics,
    reasons: list[str],
) -> ModelCard:
    """The card that train_lora wrote, with the measures in its metadata and in its text."""
    data, identity = card.read(adapter), evaluation.identity
    text = ModelCard.load(adapter / "README.md").text.strip()
    known = {name: found for name in MEASURES if (found := evaluation.get(name))}
    known["auc"] = attack["auc"]
    data.model_name = re.sub(r"\W+", "-", data.get("instance_prompt") or "lora").strip("-")
    data.eval_results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="private",
            dataset_name=f"{identity['n_test']} test photos, split {identity['split']}",
            metric_type=name,
            metric_name=MEASURES[name].title if name in MEASURES else "membership attack, AUC",
            metric_value=each.value,
        )
        for name, each in known.items()
    ]
    said = {each.rule: each for each in words.sentences(evaluation, preparation)}
    said["remembers"] = words.Sentence("remembers", *privacy.verdict(attack), "auc")
    text += TEXT.format(
        counts=f"On features of {identity['features']} ({identity['preprocessing']}), "
        f"{identity['n_synthetic']} synthetic pictures.",
        sentences="\n".join(f"- {each.sign} {each.text}" for each in said.values()),
        rows="\n".join(
            f"| `{name}` | {each.value:.4g} | {each.low:.4g} … {each.high:.4g} | {each.null:.4g} |"
            for name, each in known.items()
        ),
        copies=said["copies"].text,
        members=said["remembers"].text,
        accepted=" Who shared it knew: " + "; ".join(reasons) + "." if reasons else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
