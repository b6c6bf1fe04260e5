"""Checks before a stage starts: everything that params.yaml names exists and fits together."""

import os
import sys
from pathlib import Path

from mpox.checks import (
    check_fetched,
    check_prompts,
    check_resolution,
    check_weights,
    weights_key,
)
from mpox.core.errors import InputError
from mpox.params import FEATURES, FIELD, Generate, Params
from stages import repository

MEASURES = ("evaluate", "utility")  # stages that compute features and draw nothing


def check(params: Params) -> None:
    """Raise InputError if the repository, a folder, weights, a prompt or a precision do not fit."""
    repository.check_commit()
    repository.check("data.source", Path(params.data.source))
    repository.check("data.controls", Path(params.data.controls))
    repository.check("model.path", Path(params.model.path))
    check_files(params)


def check_files(params: Params) -> None:
    """Fail before training, not after it, when inputs do not fit.

    Checks the base model and the networks' weights, and the prompts and precisions of all that is
    still to be drawn.
    """
    stage, model = Path(sys.argv[0]).stem, Path(params.model.path)
    check_fetched(model)
    check_resolution(params.resolution, model)
    # Drawing with somebody else's LoRA needs no weights for evaluation.
    evaluate, utility = params.evaluate, params.utility
    if evaluate.weights is not None and stage not in ("generate", "privacy"):
        _check_weights(evaluate.features, evaluate.weights, bool(evaluate.download))
    # Evaluation by hand needs no weights for the classifier.
    start = utility.weights if utility.classifier == "cnn" else None
    if start is not None and stage not in ("generate", "privacy", "evaluate"):
        _check_weights("resnet18", start, bool(utility.download))
    if stage in (*MEASURES, "privacy"):
        return
    train, generate = params.train, params.generate
    prompts = [("generate.negative_prompt", generate.negative_prompt), *_filled_prompts(generate)]
    precisions = {"generate.precision": generate.precision}
    if stage != "generate":
        prompts += [
            ("train.instance_prompt", FIELD.sub("", train.instance_prompt)),
            ("train.validation_prompt", train.validation_prompt),
            ("draw_class.prompt", params.draw_class.prompt),
            ("draw_class.negative_prompt", params.draw_class.negative_prompt),
        ]
        precisions["train.precision"] = train.precision
        precisions["draw_class.precision"] = params.draw_class.precision
    check_prompts(prompts, model)
    for key, precision in precisions.items():
        if precision == "fp16":  # only then, because this imports torch
            from mpox.model import processes

            processes.start()
            processes.check_precision(key, precision)


def _filled_prompts(generate: Generate) -> list[tuple[str, str]]:
    """Every prompt to be drawn, with its key; values that only the photos know are left out."""
    entries = () if generate.fields == "as_training" else generate.fields
    prompts = []
    for key, prompt in generate.wordings():
        for values in [entry.values() for entry in entries] or [{}]:
            text = prompt
            for name, value in values.items():
                text = text.replace(f"{{{name}}}", value)
            prompts.append((f"generate.{key}", FIELD.sub("", text)))
    return prompts


def _check_weights(network: str, file: str, downloads: bool) -> None:
    """Raise InputError unless a network's weights exist, or a later stage can download them.

    Under DVC they must also lie where DVC notices a change.
    """
    key = weights_key(network)
    if "DVC_STAGE" in os.environ and FEATURES not in Path(file).parents:
        raise InputError(
            f"{key}: got {file}, expected a path below {FEATURES}, where DVC notices changes "
            f"(`python -m stages.{key.partition('.')[0]}` by hand accepts any path)"
        )
    try:
        check_weights(network, file)
    except InputError:
        if not downloads or Path(sys.argv[0]).stem in MEASURES:
            raise
        from stages import weights

        weights.fetch(network, file, only_ask=True)
