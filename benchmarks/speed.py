"""How fast, against named peers in the same run: python benchmarks/speed.py [ROW …] (make bench).

Training against diffusers' own DreamBooth LoRA example, whose file DIFFUSERS_EXAMPLES names the
folder of (…/diffusers/examples/dreambooth, at the version installed here); generation against a
plain loop over diffusers' pipeline; augmentation against the same transforms in one process. The
model and the settings are those of params.yaml: on a GPU, cp params/sd15.yaml params.yaml first.
Prints `name  ours  peer  ratio` a line (ROW: augmentation, training, generation; none: all), where
the time of a training step goes, and what share it is of the rate of a matrix product.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
import stages
from mpox.params import Params

EXAMPLE = "train_dreambooth_lora.py"
WARM, TIMED = 5, 100  # training steps
WARM_CPU, TIMED_CPU = 1, 8  # of 512 px without a GPU: each takes a quarter of a minute
PHOTOS, SIDE = 240, 1024  # pictures to augment, pixels


def main(params: Params, *rows: Path) -> None:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(f"on {gpu or 'the CPU'}, {params.model.path}, {params.resolution} px")
    units = {augmentation: "pictures/s", training: "samples/s", generation: "pictures/s"}
    with tempfile.TemporaryDirectory() as folder:
        for measure, unit in units.items():
            if not rows or Path(measure.__name__) in rows:
                row(f"{measure.__name__}, {unit}", *measure(params, Path(folder)))
    if gpu:
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GB")


def row(name: str, ours: float, peer: float | None) -> None:
    said = "skipped: DIFFUSERS_EXAMPLES names no folder" if peer is None else f"{peer:.3g}"
    ratio = "" if peer is None else f"  {ours / peer:.2f}x"
    print(f"{name}  {ours:.3g}  {said}{ratio}", flush=True)


def seconds(work: Callable[[], object]) -> float:
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


# ---------------------------------------------------------------- augmentation


def photos(folder: Path, side: int) -> Path:
    """Phantoms of `side` pixels, in `folder`."""
    import cv2

    from mpox.core import images
    from mpox.embedded import phantom

    folder.mkdir()
    for i in range(PHOTOS):
        drawn = phantom.draw("mpox", i, 0, 1, 256).picture
        images.write(folder / f"{i:03d}.png", cv2.resize(drawn, (side, side)))
    return folder


def augmentation(params: Params, work: Path) -> tuple[float, float]:
    """Photos and their variants, with all processes and with one."""
    import cv2

    from mpox import augmentation
    from mpox.core import images, seeds
    from mpox.core.picture_set import PictureSet

    source = PictureSet.read(photos(work / "photos", SIDE))
    settings, resolution = params.augment, params.resolution

    def plain() -> None:
        chain = augmentation.transforms(settings, resolution)
        for path in source.paths:
            picture = images.read(path)
            images.write(work / f"plain/{path.stem}-0.jpg", images.square(picture, resolution))
            for copy in range(1, settings.copies + 1):
                number = seeds.derive(1, "augment", path.stem, copy)
                drawn = augmentation.variant(chain, picture, number)
                images.write(work / f"plain/{path.stem}-{copy}.jpg", drawn)

    (work / "plain").mkdir()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    peer = seconds(plain)
    cv2.setNumThreads(threads)
    ours = seconds(lambda: augmentation.augment(source, work / "ours", settings, resolution, 1))
    number = PHOTOS * (1 + settings.copies)
    return number / ours, number / peer


# ---------------------------------------------------------------- training


def training(params: Params, work: Path) -> tuple[float, float | None]:
    """The same model, batch, precision, rank and target modules (attention: the example's)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mpox.core.picture_set import PictureSet
    from mpox.model import base, concepts
    from mpox.model.concepts import Lesson
    from mpox.training.learner import Learner, make_accelerator

    slow = not torch.cuda.is_available() and params.resolution >= 512
    warm, timed = (WARM_CPU, TIMED_CPU) if slow else (WARM, TIMED)
    settings = params.train.model_copy(
        update={"target_modules": "attention", "max_steps": warm + timed}
    )
    pipeline = base.place(base.load(ROOT / params.model.path, params.resolution))
    pictures = photos(work / "pictures", params.resolution)
    needed = PictureSet.read(pictures)
    needed = needed.subset(range(min(len(needed), (warm + timed) * settings.batch_size)))
    captions = [settings.instance_prompt] * len(needed)
    concept = concepts.encode(pipeline, needed, captions, params.resolution)
    learner = Learner(pipeline.unet, settings, make_accelerator(settings), params.seed)
    lessons = [Lesson(concept, "bench", params.seed, settings.batch_size)]
    steps = learner.steps(lessons)
    for _ in range(warm):
        next(steps)
    # Half of ours before the example and half after: a machine's speed drifts in minutes.
    ours = seconds(lambda: list(itertools.islice(steps, timed // 2)))
    peer = example(params, pictures, work, warm, timed)
    ours += seconds(lambda: list(steps))
    learner.settings = settings.model_copy(update={"max_steps": learner.step + 2})
    steps = learner.steps(lessons)
    with torch.profiler.profile() as profile:
        next(steps)
    with FlopCounterMode(display=False) as counted:
        next(steps)
    table = profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=8)
    print("where a training step's time goes:\n" + table)
    rate = counted.get_total_flops() * timed / ours
    most = matrix_product(pipeline.unet.conv_in.weight)
    print(f"arithmetic: {rate / 1e12:.3g} TFLOP/s, {rate / most:.0%} of a matrix product's")
    samples = timed * settings.batch_size
    return samples / ours, None if peer is None else samples / peer


def matrix_product(weight) -> float:
    """FLOP/s of large products of this weight's number format, on its device."""
    side = 8192 if weight.is_cuda else 2048
    a = weight.new_ones((side, side))
    _ = a @ a
    return 10 * 2 * side**3 / seconds(lambda: [a @ a for _ in range(10)])


def example(params: Params, pictures: Path, work: Path, warm: int, timed: int) -> float | None:
    """Seconds that `timed` steps take diffusers' example: a longer run less a shorter one."""
    file = Path(os.environ.get("DIFFUSERS_EXAMPLES", ""), EXAMPLE)
    if not file.is_file():
        return None
    settings, took = params.train, []
    for steps in (warm, warm + timed):
        options = {
            "pretrained_model_name_or_path": ROOT / params.model.path,
            "instance_data_dir": pictures,
            "instance_prompt": settings.instance_prompt,
            "output_dir": work / f"example-{steps}",
            "resolution": params.resolution,
            "train_batch_size": settings.batch_size,
            "max_train_steps": steps,
            "checkpointing_steps": 10**6,
            "rank": settings.rank,
            "learning_rate": settings.learning_rate,
            "mixed_precision": {"fp32": "no"}.get(settings.precision, settings.precision),
            "seed": 0,
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        if settings.gradient_checkpointing:
            words.append("--gradient_checkpointing")
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(file.resolve()), *words], cwd=work, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{file}:\n{done.stderr[-2000:]}")
        took.append(time.perf_counter() - started)
    return took[1] - took[0]


# ---------------------------------------------------------------- generation


def generation(params: Params, work: Path) -> tuple[float, float]:
    """The same pictures in batches, written meanwhile, and one by one."""
    import torch

    from mpox.core import seeds
    from mpox.model import base
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Sampler

    settings = params.generate
    pipeline = base.place(base.load(ROOT / params.model.path, params.resolution))
    if settings.precision != "fp32":
        pipeline.to(base.DTYPES[settings.precision])
    kind, options = sampler.SCHEDULERS[settings.scheduler]
    (work / "one").mkdir()

    def one_by_one() -> None:
        scheduler = pipeline.scheduler
        pipeline.scheduler = kind.from_config(scheduler.config, **options)
        for i in range(settings.num_images):
            drawn = pipeline(
                prompt=settings.prompt,
                negative_prompt=settings.negative_prompt,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance,
                height=params.resolution,
                width=params.resolution,
                generator=torch.Generator().manual_seed(seeds.derive(params.seed, "picture", i)),
            ).images[0]
            drawn.save(work / f"one/{i:05d}.png")
        pipeline.scheduler = scheduler

    peer = seconds(one_by_one)
    requests = sampler.series(settings.prompt, settings.num_images, params.seed, "picture")
    drawing = Sampler(pipeline, settings, params.resolution)
    ours = seconds(lambda: drawing.draw_all(work / "all", requests))
    shutil.rmtree(work / "all")
    return settings.num_images / ours, settings.num_images / peer


if __name__ == "__main__":
    stages.run(main)
