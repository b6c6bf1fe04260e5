"""A DreamBooth LoRA from a folder of photos, and pictures with it, without DVC.

python examples/lora.py PHOTOS OUT, with the parameters of params.yaml. What the stages add: checks
before work, resuming in another copy of the repository, a record of what was made from what.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "src")]
import stages  # noqa: F401  holds threads and instructions still
from mpox import augmentation
from mpox.model import processes
from mpox.params import Params, read
from mpox.photos import preparation


def main(photos: Path, out: Path) -> None:
    # Here, for the processes that read the photos import this file, but need no network.
    from mpox.core.picture_set import PictureSet
    from mpox.sampling import sampler
    from mpox.sampling.sampler import Job
    from mpox.training import dreambooth
    from mpox.training.dreambooth import Recipe, Sets

    # Set-up: parameters, this process, and sets that share no patient.
    params = read(Path("params.yaml"), Params)
    side, seed, model = params.resolution, params.seed, Path(params.model.path)
    processes.start()
    data = params.data.model_copy(update={"source": str(photos)})
    preparation.prepare(data, out / "prepared", side, seed)
    train = PictureSet.read(out / "prepared/train")
    augmentation.augment(train, out / "augmented", params.augment, side, seed)

    # Train: goes on from out/work/state.pt if that is there, and keeps the LoRA of the lowest
    # held-out loss.
    sets = Sets(PictureSet.read(out / "augmented"), PictureSet.read(out / "prepared/val"), None)
    if params.train.prior_preservation.draws_class():
        drawn = out / "class"
        sampler.generate(Job("draw_class", model, params.draw_class, side, seed), drawn)
        sets = sets._replace(class_pictures=PictureSet.read(drawn))
    result = dreambooth.train(sets, Recipe(model, params.train, side, seed), out / "work")

    # Sample: picture i is a function of the seed and i.
    job = Job("generate", model, params.generate, side, seed, adapter=result / "lora")
    sampler.generate(job, out / "pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
