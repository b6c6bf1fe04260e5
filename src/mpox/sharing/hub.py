"""A folder for the Hugging Face Hub: the LoRA, and a card that carries the run's evidence."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCard

from mpox.core import folders
from mpox.core.errors import InputError
from mpox.model import lora
from mpox.params import Sampler
from mpox.report import privacy, words
from mpox.report.measures import MEASURES
from mpox.statistics.estimate import Metrics
from mpox.training import card

COPIES = 0.05  # the largest acceptable share of synthetic pictures that may be copies
CODE = re.compile(r"```python\n.*?```", re.DOTALL)
TEXT = """
## What the run measured

{counts}

{sentences}

| measure | value | 95 % interval | real photos instead |
|---|--:|---|--:|
{rows}

Compare these numbers only with numbers from the same test photos and the same features.

## May it be shared?

{copies} {members} Neither is proof: these are two tests, and a better attack may find
more.{accepted}

## Intended use and limits

Research on synthetic pictures, by people who know how they were made. Not for diagnosis. Not for
teaching what mpox looks like, unless the pictures are shown as synthetic. Not as the only test data
of a classifier. Skin tones, body sites and stages that the training photos lack are missing from
the pictures too. This folder holds no photo and no number of a single patient.
"""


class Evidence(NamedTuple):
    """What the run recorded about a LoRA."""

    evaluation: Metrics  # metrics/evaluation.json
    preparation: Mapping[str, float]  # the counts of metrics/prepare.json
    attack: Metrics  # metrics/privacy.json
    model: Path  # the base model
    drawing: Sampler  # how `generate` drew the evaluated pictures


def check(evidence: Evidence) -> list[str]:
    """Why a LoRA should not be shared, one line per reason; empty if both numbers are low."""
    reasons, copied = [], evidence.evaluation.get("copy_rate")
    auc = evidence.attack["auc"]
    if copied is None:
        reasons.append("copy_rate was not measured")
    elif copied.high > COPIES:
        reasons.append(
            f"copy_rate may be as high as {copied.high:.3f}, above {COPIES}: too many pictures "
            "may be copies of training photos"
        )
    if auc.high > privacy.BOUND:
        reasons.append(
            f"auc of metrics/privacy.json may be as high as {auc.high:.3f}, above {privacy.BOUND}: "
            "anyone with the weights may find out whose photos were used"
        )
    return reasons


def write(folder: Path, adapter: Path, evidence: Evidence, accepted: bool) -> None:
    """Creates `folder` with the weights and README.md, ready for `hf upload`.

    Raises InputError if the folder is there already, if the evidence is about another LoRA, and if
    `check` gives reasons that were not `accepted`.
    """
    weights = adapter / lora.FILE_NAME
    if not weights.is_file():
        raise InputError(f"{adapter}: holds no {lora.FILE_NAME}")
    if evidence.attack.identity["lora_sha256"] != folders.sha256(weights):
        raise InputError(
            f"{weights}: metrics/privacy.json is of another LoRA; run `dvc repro` to measure this "
            "one"
        )
    reasons = check(evidence)
    if reasons and not accepted:
        raise InputError("\n".join([f"{adapter}: not exported without --accept-risk:", *reasons]))
    folders.check_vacant(folder)
    with folders.whole(folder) as partial:
        (partial / lora.FILE_NAME).write_bytes(weights.read_bytes())
        _card(adapter, evidence, reasons).save(partial / "README.md")


def _card(adapter: Path, evidence: Evidence, reasons: list[str]) -> ModelCard:
    """The card that train_lora wrote, with the settings of `generate` and the measures."""
    evaluation, identity = evidence.evaluation, evidence.evaluation.identity
    data, drawing = card.read(adapter), evidence.drawing
    prompt = data.get("instance_prompt") or "lora"
    code = card.snippet(evidence.model, prompt, drawing)
    text = CODE.sub(lambda _: code, ModelCard.load(adapter / "README.md").text.strip())
    measures = {name: measure for name in MEASURES if (measure := evaluation.get(name))}
    measures["auc"] = evidence.attack["auc"]
    data.model_name = re.sub(r"\W+", "-", prompt).strip("-")
    data.eval_results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="private",
            dataset_name=f"{identity['n_test']} test photos, split {identity['split']}",
            metric_type=name,
            metric_name=MEASURES[name].title if name in MEASURES else "membership attack, AUC",
            metric_value=measure.value,
        )
        for name, measure in measures.items()
    ]
    sentences = {each.rule: each for each in words.sentences(evaluation, evidence.preparation)}
    verdict = privacy.verdict(evidence.attack)
    sentences["remembers"] = words.Sentence("remembers", *verdict, "auc")
    text += TEXT.format(
        counts=f"{identity['n_synthetic']} synthetic pictures, drawn with guidance "
        f"{drawing.guidance:g}, {drawing.steps} steps and scheduler `{drawing.scheduler}`; "
        f"features of {identity['features']} ({identity['preprocessing']}).",
        sentences="\n".join(f"- {each.sign} {each.text}" for each in sentences.values()),
        rows="\n".join(
            f"| `{name}` | {each.value:.4g} | {each.low:.4g} … {each.high:.4g} | {each.null:.4g} |"
            for name, each in measures.items()
        ),
        copies=sentences["copies"].text,
        members=sentences["remembers"].text,
        accepted=f" It was shared in spite of this: {'; '.join(reasons)}." if reasons else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
