"""The schema of params.yaml: the type and range of every key, without defaults.

Because it has no defaults, this module can refuse a run but never change its result. Stages
therefore do not depend on it. It imports nothing heavy, so a mistyped key is refused at once.
"""

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mpox.core.errors import InputError

Count = Annotated[int, Field(ge=1)]
Enough = Annotated[int, Field(ge=4)]  # pictures: two halves, each with a covariance
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[int, Field(ge=8, multiple_of=8)]  # GroupNorm has groups of eight
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]  # a list in YAML


def _is_local(path: str) -> str:
    if "://" in path or "\0" in path:
        raise ValueError("expected a folder on this machine; DVC reads :// as a remote address")
    return path


def no_fields(prompt: str) -> str:
    if field := FIELD.search(prompt):
        raise ValueError(f"fields are not filled in here; write a value instead of {field[0]}")
    return prompt


Place = Annotated[Text, AfterValidator(_is_local)]  # a dependency in dvc.yaml
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]  # a commit
FIELD = re.compile(r"\{([^{}]*)\}")  # in a prompt: a column of the pictures' table
# Columns that the pipeline writes itself, and `n`, which counts pictures. No field has these names.
RESERVED = {
    "file_name",
    "patient",
    "group",
    "variant",
    "source",
    "text",
    "negative_prompt",
    "seed",
    "n",
}
T = TypeVar("T", bound="Section")
Precision = Literal["fp32", "bf16", "fp16"]
# The parser also raises ValueError on malformed numbers and RecursionError on deep nesting.
NOT_YAML = (YAMLError, ValueError, RecursionError)
FEATURES = Path("models/features")  # where models/dvc.yaml puts downloads
# Keys that older parameter files lack, with the value that was in effect.
EARLIER = {
    "train.prior_preservation.target": "class_pictures",
    "utility": "{classifier: linear, weights: null, download: []}",
}


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Model(Section):
    path: Place  # a local folder in diffusers' layout
    download: Annotated[tuple[Revision, ...], Field(max_length=1, strict=False)]  # of SD 1.5


class Split(Section):
    """Shares of the pictures, split by patient."""

    train: Positive
    val: Positive
    test: Positive

    @model_validator(mode="after")
    def sums_to_one(self) -> Self:
        if not math.isclose(self.train + self.val + self.test, 1, abs_tol=1e-6):
            shares = f"train ({self.train}), val ({self.val}) and test ({self.test})"
            raise ValueError(f"{shares} must add up to 1")
        return self


class Data(Section):
    source: Place
    controls: Place  # photos of other conditions, or data/none
    patients: Text  # table | folder | unknown | none, or a regular expression with one group
    columns: Texts  # of the photos' table, carried through to the synthetic pictures
    on_invalid: Literal["stop", "skip"]
    duplicate_distance: Annotated[int, Field(ge=0, le=64)]  # bits of a 64-bit perceptual hash
    split: Split

    @field_validator("columns")
    @classmethod
    def can_be_carried(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for name in columns:
            if name in ("file_name", "patient", "group", "variant", "source"):
                raise ValueError(f"{name} is reserved and is always carried; leave it out")
            if name != name.strip().lower() or columns.count(name) > 1:
                raise ValueError(f"expected lower-case names without repeats; got {name!r}")
        return columns

    @field_validator("patients")
    @classmethod
    def identifies_patients(cls, choice: str) -> str:
        if choice in ("table", "folder", "unknown", "none"):
            return choice
        try:
            groups = re.compile(choice).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups != 1:
            raise ValueError(
                "expected table, folder, unknown, none, or a regular expression with one group "
                f"(…); this one has {groups}"
            )
        return choice


class Chance(Section):
    p: Share


class ShiftScaleRotate(Chance):
    shift: Share  # of the picture's side
    scale: Annotated[float, Field(ge=0, lt=1)]  # 0.1: 90 % … 110 %
    rotate: Annotated[float, Field(ge=0, le=180)]  # degrees


class RandomResizedCrop(Chance):
    scale_min: Annotated[float, Field(gt=0, le=1)]  # share of the area


class ColourJitter(Chance):
    brightness: Share
    contrast: Share
    saturation: Share
    hue: Annotated[float, Field(ge=0, le=0.5)]


class SigmaRange(Chance):
    sigma_min: NonNegative
    sigma_max: NonNegative

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.sigma_min > self.sigma_max:
            raise ValueError(
                f"sigma_min ({self.sigma_min}) must not exceed sigma_max ({self.sigma_max})"
            )
        return self


class NoiseRange(SigmaRange):
    sigma_max: Annotated[float, Field(ge=0, le=255)]


class BlurRange(SigmaRange):
    sigma_max: Annotated[float, Field(gt=0, le=100)]  # 0 would divide by zero


class Elastic(Chance):
    alpha: NonNegative  # pixels
    sigma: Annotated[float, Field(ge=1, le=500)]  # pixels; large values are slow


class Clahe(Chance):
    clip_limit: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    tiles: Annotated[int, Field(ge=1, le=64)]  # per side


class Augment(Section):
    copies: Natural
    horizontal_flip: Chance
    vertical_flip: Chance
    rotate90: Chance
    shift_scale_rotate: ShiftScaleRotate
    random_resized_crop: RandomResizedCrop
    colour_jitter: ColourJitter
    gaussian_noise: NoiseRange  # in steps of 1/255
    gaussian_blur: BlurRange  # pixels
    elastic: Elastic
    clahe: Clahe


class Sampler(Section):
    guidance: Annotated[float, Field(ge=1, allow_inf_nan=False)]  # 1: no guidance
    steps: Annotated[int, Field(ge=1, le=1000)]
    scheduler: Literal["pndm", "dpm++", "dpm++_sde", "unipc", "ddim"]
    batch_size: Count  # a parameter, because it changes the last bits of a picture

    @model_validator(mode="after")
    def has_exact_timesteps(self) -> Self:
        """Refuse rounding: Diffusers counts down from t = 1000 in floats, PNDM up from t = 1."""
        if self.scheduler == "pndm" and self.steps == 1000:
            raise ValueError(
                "steps (1000) must be at most 999 for pndm, which has no first timestep for 1000"
            )
        if self.scheduler != "pndm" and math.ceil(1000 / (1000 / self.steps)) > self.steps:
            raise ValueError(
                f"steps ({self.steps}) cannot be used with {self.scheduler}, which by a "
                "rounding error adds a step at timestep -1; choose another number"
            )
        return self


class Drawing(Sampler):
    prompt: Text
    negative_prompt: Annotated[str, AfterValidator(no_fields)]
    num_images: Natural


class PriorPreservation(Section):
    target: Literal["base_prediction", "class_pictures"]
    weight: NonNegative  # of this loss relative to that of the training pictures; 0: off
    batch_size: Count  # its samples in every step

    def draws_class(self) -> bool:
        """Whether training needs class pictures."""
        return self.target == "class_pictures" and self.weight > 0


class Train(Section):
    seed: Natural | None  # null: the run's
    rank: Count
    alpha: Positive
    rslora: bool
    dora: bool
    target_modules: Literal[
        "attention", "attention+feed_forward", "attention+feed_forward+convolution"
    ]
    instance_prompt: Text
    learning_rate: Positive
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]
    warmup_steps: Natural
    max_steps: Count
    batch_size: Count  # training pictures in every step, over all processes
    optimizer: Literal["adamw", "adamw_8bit"]
    weight_decay: NonNegative
    max_grad_norm: Positive
    min_snr_gamma: Positive | None
    caption_dropout: Annotated[float, Field(ge=0, lt=1)]  # probability of an empty caption
    noise_offset: NonNegative  # added to each channel's mean noise, as in kohya
    precision: Precision  # of the frozen base; LoRA weights are always fp32
    gradient_checkpointing: bool
    prior_preservation: PriorPreservation
    preview: Sampler  # how validation pictures are drawn
    validation_prompt: Annotated[Text, AfterValidator(no_fields)]
    validation_images: Count
    validation_steps: Count  # from one set of validation pictures to the next
    val_loss_steps: Count  # from one validation loss and resume point to the next
    checkpointing_steps: Count  # from one LoRA file checkpoint-N/ to the next
    select: Literal["best", "last"]

    @model_validator(mode="after")
    def supports_dora(self) -> Self:
        if self.dora and "convolution" in self.target_modules and self.precision != "fp32":
            raise ValueError(
                f"precision ({self.precision}) must be fp32 for DoRA on convolutions, whose "
                "norms PEFT would compute from rounded weights"
            )
        return self

    @model_validator(mode="after")
    def keeps_the_empty_caption(self) -> Self:
        prior = self.prior_preservation
        if self.caption_dropout and prior.target == "base_prediction" and prior.weight:
            raise ValueError(
                f"caption_dropout ({self.caption_dropout}) must be 0 while "
                "prior_preservation.target is base_prediction: caption dropout trains the empty "
                "caption on photos, and base_prediction keeps it as in the base"
            )
        return self

    @model_validator(mode="after")
    def can_decay(self) -> Self:
        if self.lr_scheduler == "polynomial" and self.learning_rate <= 1e-7:
            raise ValueError(
                f"learning_rate ({self.learning_rate}) must be above 1e-07 for lr_scheduler "
                "polynomial, which ends there"
            )
        return self

    @model_validator(mode="after")
    def warms_up_in_time(self) -> Self:
        if self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below max_steps ({self.max_steps})"
            )
        if self.warmup_steps and self.lr_scheduler == "constant":
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be 0 for lr_scheduler constant; "
                "use constant_with_warmup"
            )
        return self


class DrawClass(Drawing):
    prompt: Annotated[Text, AfterValidator(no_fields)]
    precision: Precision


class Values(Section):
    """One combination of values for a prompt's fields, and its share of the pictures."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, Text]
    share: Positive

    def values(self) -> dict[str, str]:
        return dict(self.__pydantic_extra__)


class Prompt(Section):
    prompt: Text
    share: Positive


class Generate(Drawing):
    seed: Natural | None  # null: the training's
    prompts: Annotated[tuple[Prompt, ...], Field(strict=False)]  # used instead of prompt
    fields: Literal["as_training"] | Annotated[tuple[Values, ...], Field(strict=False)]
    num_images: Enough
    lora_scale: NonNegative  # 0: the base alone
    signal_leak: Literal["none", "training", "field"]  # what is mixed into the initial noise
    precision: Precision

    @model_validator(mode="after")
    def fills_every_field(self) -> Self:
        names = None if self.fields == "as_training" else [[*e.values()] for e in self.fields]
        if names is not None:
            self._check_entries(names)
        for key, prompt in self.wordings():
            known = FIELD.findall(prompt) if names is None else [n for e in names[:1] for n in e]
            if missing := [name for name in FIELD.findall(prompt) if name not in known]:
                raise ValueError(f"{key}: fields has no values for {{{missing[0]}}}")
        if self.signal_leak == "field" and not self.fields:
            raise ValueError("signal_leak: field needs fields")
        return self

    @staticmethod
    def _check_entries(names: list[list[str]]) -> None:
        if any(sorted(entry) != sorted(names[0]) for entry in names):
            raise ValueError("fields: expected the same fields in every entry, each with a value")
        if names and not names[0]:
            raise ValueError("fields: expected a field next to the share, such as tone: dark")
        if names and (reserved := RESERVED.intersection(names[0])):
            raise ValueError(f"fields: {min(reserved)} is a reserved name")

    def wordings(self) -> list[tuple[str, str]]:
        """Every prompt with its key."""
        if self.prompts:
            return [(f"prompts.{k}", entry.prompt) for k, entry in enumerate(self.prompts)]
        return [("prompt", self.prompt)]


class Evaluate(Section):
    features: Literal["efficientnet_lite0", "inception_v3", "torchvision_inception_v3", "dinov2"]
    weights: Place | None  # a local file or folder; null only for efficientnet_lite0
    download: Annotated[  # the weights of these features
        tuple[Literal["inception_v3", "torchvision_inception_v3"], ...],
        Field(max_length=1, strict=False),
    ]
    by: Texts  # columns (tone, or of data.columns) whose groups are measured separately
    max_pictures: Enough | None

    @model_validator(mode="after")
    def has_weights(self) -> Self:
        if (self.weights is None) != (self.features == "efficientnet_lite0"):
            raise ValueError(
                "weights must be null for efficientnet_lite0, which comes with its package, "
                f"and a local path for other features; got {self.weights!r} for {self.features}"
            )
        return self

    @model_validator(mode="after")
    def downloads_what_is_used(self) -> Self:
        """DVC knows only for files in FEATURES that `evaluate` waits for the download."""
        belongs = self.weights is not None and Path(self.weights).parent == FEATURES
        if self.download and not (self.download == (self.features,) and belongs):
            raise ValueError(
                f"download must be [], or name the features, with weights in {FEATURES}; "
                f"got {list(self.download)} for {self.features} with {self.weights!r}"
            )
        return self


class Utility(Section):
    classifier: Literal["linear", "cnn"]
    weights: Place | None  # of a ResNet-18 for cnn; null: a small network from scratch
    download: Annotated[tuple[Literal["resnet18"], ...], Field(max_length=1, strict=False)]

    @model_validator(mode="after")
    def downloads_what_is_used(self) -> Self:
        """DVC knows only for files in FEATURES that `utility` waits for the download."""
        belongs = self.weights is not None and Path(self.weights).parent == FEATURES
        if self.download and not (self.classifier == "cnn" and belongs):
            raise ValueError(
                f"download must be [], or with classifier cnn [resnet18], with weights in "
                f"{FEATURES}; got {list(self.download)} for {self.classifier} with {self.weights!r}"
            )
        return self


class Reading(Section):
    pictures: Annotated[int, Field(ge=2)]  # of each class
    repeats: Natural  # pictures shown twice
    training: Natural  # pictures of each class, shown first with the answer
    diagnoses: Annotated[Texts, Field(min_length=2, max_length=35)]  # mpox first
    features: Annotated[Texts, Field(min_length=1, max_length=35)]
    sites: Annotated[Texts, Field(min_length=1, max_length=35)]
    margin: Annotated[float, Field(gt=0, lt=0.5)]  # around an accuracy of ½, set beforehand
    incomplete: Literal["refuse", "count"]  # for readers who skipped pictures

    @field_validator("diagnoses", "features", "sites")
    @classmethod
    def differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"expected no repeats; got {twice[0]!r} twice")
        return names


class Report(Section):
    real: bool  # whether the page shows real photos; without them it may be shared


class Params(Section):
    """params.yaml."""

    seed: Natural
    resolution: Annotated[int, Field(ge=16, multiple_of=8)]  # pixels
    model: Model
    data: Data
    augment: Augment
    draw_class: DrawClass
    train: Train
    generate: Generate
    evaluate: Evaluate
    utility: Utility
    reading: Reading
    report: Report

    @model_validator(mode="after")
    def fields_are_carried(self) -> Self:
        carried = {"tone", *self.data.columns} - RESERVED
        for name in FIELD.findall(self.train.instance_prompt):
            if name not in carried:
                raise ValueError(
                    f"train.instance_prompt: no {{{name}}}; expected one of {sorted(carried)}; add "
                    "other columns of your table to data.columns"
                )
        for name in self.evaluate.by:
            if name not in carried:
                raise ValueError(f"evaluate.by: no {name!r}; expected one of {sorted(carried)}")
        trained = {"tone", *FIELD.findall(self.train.instance_prompt)}
        if self.generate.fields == "as_training":
            for key, prompt in self.generate.wordings():
                for name in FIELD.findall(prompt):
                    if name not in trained:
                        raise ValueError(
                            f"generate.{key}: no {{{name}}}; as_training knows {sorted(trained)}: "
                            "tone and the fields of train.instance_prompt"
                        )
        return self

    @model_validator(mode="after")
    def has_class_pictures(self) -> Self:
        prior, drawn = self.train.prior_preservation, self.draw_class.num_images
        if prior.draws_class() and prior.batch_size > drawn:
            raise ValueError(
                f"train.prior_preservation.batch_size ({prior.batch_size}) must be at most "
                f"draw_class.num_images ({drawn}) while train.prior_preservation.target is "
                "class_pictures and its weight is not 0"
            )
        return self


class LookAlikes(Section):
    """Patients of each kind of embedded control."""

    chickenpox: Count
    molluscum: Count
    ecthyma: Count


class Phantoms(Section):
    """params/phantom.yaml: the embedded photos."""

    seed: Natural
    patients: Count
    pictures: Count  # per patient
    controls: LookAlikes
    size: Annotated[int, Field(ge=32)]


class TinySD(Section):
    """params/tiny-sd.yaml: how `models/tiny-sd` is pretrained."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]  # passed to torch unchanged
    resolution: Annotated[int, Field(ge=16, multiple_of=8)]
    pictures: Count  # per kind
    codec_channels: Annotated[tuple[Channels, ...], Field(min_length=2, strict=False)]
    codec_steps: Count
    codec_batch_size: Annotated[int, Field(ge=4)]
    codec_learning_rate: Positive
    texture_steps: Count
    text_width: Annotated[int, Field(ge=8, multiple_of=8)]
    text_layers: Count
    unet_channels: Annotated[tuple[Channels, ...], Field(min_length=2, strict=False)]
    unet_steps: Count
    unet_batch_size: Count
    unet_learning_rate: Positive
    unet_precision: Literal["fp32", "bf16"]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree of parameters by dotted key."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        values |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return values


def read(path: Path, schema: type[T], changes: Mapping[str, str] | None = None) -> T:
    """Read and validate a parameter file, with `changes` applied by dotted key.

    It is YAML 1.2, in which `5e-05`, as DVC writes it, is a number. Raises InputError with one line
    per wrong key: the key, its value, and what is accepted.
    """
    try:
        content = _load(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; expected a parameter file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except NOT_YAML as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from None
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        try:
            section = functools.reduce(lambda node, part: node[part], parents, content)
            section[last] = _load(value)
        except (KeyError, TypeError):
            raise InputError(f"{path}: {key}: no such key") from None
        except NOT_YAML as error:
            raise InputError(f"{key}: not readable as YAML: {error}") from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(path, problem) for problem in error.errors())) from None


def _load(text: Path | str):
    return YAML(typ="safe", pure=True).load(text)


def _explain(path: Path, problem) -> str:
    # For a value that may be a word or a list, pydantic names the alternative in the location.
    parts = [str(part) for part in problem["loc"] if not re.match(r"(literal|tuple)\[", str(part))]
    key = ".".join(parts) or "the whole file"
    if problem["type"] == "missing":
        value = EARLIER.get(key)
        remedy = f"; add {parts[-1]}: {value} for the earlier behaviour" if value else ""
        return f"{path}: {key}: missing{remedy}"
    if problem["type"] == "extra_forbidden":
        return f"{path}: {key}: no such key"
    value = problem["input"]
    shown = "" if isinstance(value, dict | BaseModel) else f"got {value!r}: "
    message = problem["msg"].removeprefix("Value error, ").replace(" after validation", "")
    message = re.sub("[Tt]uple", "list", re.sub(r" or instance of \w+", "", message))
    return f"{path}: {key}: {shown}{message[0].lower()}{message[1:]}"
