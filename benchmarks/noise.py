"""The noise that `evaluate` states, held against drawings and trainings.

python benchmarks/noise.py WORK draw     # after dvc repro; two hours on one core; resumes
python benchmarks/noise.py WORK tables   # minutes

`draw` trains LoRAs with other seeds, ranks and lengths and draws each of them again and again;
`tables` holds the spread of the measures over these against the noise that each evaluation states.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401
from mpox import pins

pins.unpin()  # twice as fast, and no bits are compared here
import torch

torch.set_num_threads(1)
from mpox import images, table
from mpox.diffusion import lora, sampling, training
from mpox.embedded import phantom
from mpox.params import Params, read

PARAMS = read(Path("params.yaml"), Params)
MODEL, SIDE = Path(PARAMS.model.path), PARAMS.resolution
SETTINGS = {
    "rank 8": {},
    "60 steps": {"max_steps": 60, "warmup_steps": 10},
    "rank 16": {"rank": 16, "alpha": 16.0},
    "rank 4": {"rank": 4, "alpha": 4.0},
}
TRAININGS = {
    "60 steps": (1, 2, 3),
    "rank 16": (1, 2, 3),
    "rank 8": (PARAMS.seed, 1, 2, 3, 4),
    "rank 4": (1, 2, 3),
}
REDRAWN = {"rank 8": PARAMS.seed, "60 steps": 1, "rank 16": 1}  # twenty times
DRAWINGS = range(100, 120)
FRESH = "fresh phantoms"


def train(work: Path, kind: str, seed: int) -> Path:
    """The folder of a LoRA: the run's own, or trained now."""
    if kind == "rank 8" and seed == PARAMS.seed:
        return Path("models/lora")
    out = work / kind / f"training {seed}"
    if not (out / "result/lora" / lora.FILE_NAME).exists():
        settings = PARAMS.train.model_copy(update=SETTINGS[kind])
        sets = [Path(each) for each in ("data/augmented", "data/prepared/val", "data/class")]
        training.train(*sets, MODEL, out, settings, SIDE, seed)
    return out / "result/lora"


def draw(adapter: Path, out: Path, seed: int, guidance: float = PARAMS.generate.guidance) -> None:
    if not (out / table.NAME).exists():
        settings = PARAMS.generate.model_copy(update={"guidance": guidance})
        sampling.generate(MODEL, adapter, out, settings, SIDE, seed)


def draw_fresh(out: Path, seed: int) -> None:
    """As many phantoms of patients nobody has seen: what a perfect generator would draw."""
    for i in range(PARAMS.generate.num_images):
        picture = phantom.draw("mpox", i, 0, seed=seed, size=2 * SIDE).picture
        images.write(out / f"{i:05d}.png", images.square(picture, SIDE))


def draw_all(work: Path) -> None:
    for seed in DRAWINGS:
        draw_fresh(work / FRESH / f"drawing {seed}", 10_000 + seed)
    for kind, seed in REDRAWN.items():
        adapter = train(work, kind, seed)
        for own in DRAWINGS:
            draw(adapter, work / kind / f"drawing {own}", own)
    for kind, seeds in TRAININGS.items():
        for seed in seeds:
            adapter = train(work, kind, seed)
            draw(adapter, work / kind / f"replicate {seed}", seed)
            draw(adapter, work / kind / f"same drawing {seed}", PARAMS.seed)
            if kind == "rank 8" and seed in seeds[:3]:
                draw(adapter, work / "guidance 3" / f"replicate {seed}", seed, 3.0)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
