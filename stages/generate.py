"""Draws the synthetic pictures: `python -m stages.generate LORA OUT`."""

import csv
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, adapter: Path, out: Path) -> None:
    """The pictures and `manifest.csv` (file, prompt, seed of its CPU generator) in `out`."""
    from mpox import checkpoints, folders
    from mpox.diffusion import base, lora, sampling

    process = base.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    base.check_precision("generate.precision", params.generate.precision)
    settings = {"generate": params.generate, "resolution": params.resolution, "seed": params.seed}
    model, weights = Path(params.model.path), adapter / lora.FILE_NAME
    work = checkpoints.folder("generate", settings, [model, weights])
    pictures = work / "pictures"
    drawn = sampling.generate(
        model, adapter, pictures, params.generate, params.resolution, params.seed
    )
    if process.is_main_process:
        with (pictures / "manifest.csv").open("w", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(["file", "prompt", "negative_prompt", "seed"])
            for file, number in drawn.items():
                rows.writerow(
                    [file, params.generate.prompt, params.generate.negative_prompt, number]
                )
        folders.copy(pictures, out)
        checkpoints.finish(work)
        checkpoints.sweep("train_lora")
    process.destroy_process_group()


if __name__ == "__main__":
    run(main)
