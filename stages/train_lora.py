"""Trains the LoRA: `python -m stages.train_lora AUGMENTED VAL CLASS LORA CURVES`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(
    params: Params, augmented: Path, val: Path, class_pictures: Path, out: Path, curves: Path
) -> None:
    """Writes the LoRA and the curves; a later stage removes the resume point."""
    from mpox.core import folders, seeds
    from mpox.core.picture_set import PictureSet
    from mpox.model import checkpoints, processes
    from mpox.training import dreambooth
    from mpox.training.dreambooth import Recipe, Sets

    process = processes.start()
    if process.is_main_process:  # other machines may look before DVC has cleared them
        folders.check_vacant(out, curves)
    model = Path(params.model.path)
    seed = seeds.first(params.train.seed, params.seed)
    settings = {"train": params.train, "resolution": params.resolution, "seed": seed}
    work = checkpoints.folder("train_lora", settings, [augmented, val, class_pictures, model])
    sets = Sets(*(PictureSet.read(folder) for folder in (augmented, val, class_pictures)))
    result = dreambooth.train(sets, Recipe(model, params.train, params.resolution, seed), work)
    if process.is_main_process:
        folders.copy(result / "curves", curves)
        folders.copy(result / "lora", out)
        checkpoints.finish(work)
    process.destroy_process_group()


if __name__ == "__main__":
    run(main, launched=True)
