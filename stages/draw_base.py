"""What the base draws without the LoRA, by generate's prompts and seeds: `… PHOTOS OUT`.

python -m stages.draw_base PHOTOS OUT; PHOTOS is the folder with train_lora's photos.json.
"""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, photos: Path, out: Path) -> None:
    from mpox.core import folders, seeds
    from mpox.model import processes
    from mpox.sampling import sampler

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    model, side = Path(params.model.path), params.resolution
    seed = seeds.first(params.generate.seed, params.train.seed, params.seed)
    sampler.draw_folder("draw_base", out, model, None, params.generate, side, seed, photos)
    process.destroy_process_group()


if __name__ == "__main__":
    run(main, launched=True)
