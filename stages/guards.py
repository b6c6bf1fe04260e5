"""What every stage asks before it works: whether what params.yaml names is there and fits."""

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

MEASURES = ("evaluate", "utility")  # the stages that take features, and draw nothing


def check(params: Params) -> None:
    """InputError for a repository, a folder, weights, a prompt or a precision that do not fit."""
    repository.check_commit()
    repository.check("data.source", Path(params.data.source))
    repository.check("data.controls", Path(params.data.controls))
    repository.check("model.path", Path(params.model.path))
    check_files(params)


def check_files(params: Params) -> None:
    """Stops the first stage, not one after the training, where something around does not fit.

    The base, networks' weights, and of what is still to be drawn the prompts and the precision.
    """
    stage, model = Path(sys.argv[0]).stem, Path(params.model.path)
    check_fetched(model)
    check_resolution(params.resolution, model)
    # Who draws with a LoRA that others trained need not evaluate.
    evaluate, utility = params.evaluate, params.utility
    if evaluate.weights is not None and stage not in ("generate", "privacy"):
        _check_weights(evaluate.features, evaluate.weights, bool(evaluate.download))
    # And who measures or trains by hand need not try a classifier.
    trained = utility.weights if utility.classifier == "cnn" else None
    if trained is not None and stage not in ("generate", "privacy", "evaluate"):
        _check_weights("resnet18", trained, bool(utility.download))
    if stage in (*MEASURES, "privacy"):
        return
    train, generate = params.train, params.generate
    prompts = [("generate.negative_prompt", generate.negative_prompt), *_asked(generate)]
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
        if precision == "fp16":  # else no stage that needs none is kept waiting for torch
            from mpox.model import processes

            processes.start()
            processes.check_precision(key, precision)


def _asked(generate: Generate) -> list[tuple[str, str]]:
    """Every prompt that pictures will be drawn under, as far as params.yaml says, after its key."""
    known = () if generate.fields == "as_training" else generate.fields
    values = [each.values() for each in known] or [{}]
    found = []
    for key, prompt in generate.wordings():
        for own in values:
            said = prompt
            for name, value in own.items():
                said = said.replace(f"{{{name}}}", value)
            found.append((f"generate.{key}", FIELD.sub("", said)))
    return found


def _check_weights(network: str, file: str, downloads: bool) -> None:
    """A network's weights are there, or can be had from where a later stage downloads them.

    And where DVC sees them change, if it is DVC that asks.
    """
    key = weights_key(network)
    if "DVC_STAGE" in os.environ and FEATURES not in Path(file).parents:
        raise InputError(
            f"{key}: got {file}, expected a path below {FEATURES}, where DVC sees it change (by "
            f"hand, `python -m stages.{key.partition('.')[0]}` takes any)"
        )
    try:
        check_weights(network, file)
    except InputError:
        if not downloads or Path(sys.argv[0]).stem in MEASURES:
            raise
        from stages import weights

        weights.fetch(network, file, only_ask=True)
