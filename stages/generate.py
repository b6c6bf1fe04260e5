"""Draws the synthetic pictures: `python -m stages.generate LORA OUT`."""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, adapter: Path, out: Path) -> None:
    """The pictures in `out`, with their table: `text`, `negative_prompt`, `seed`."""
    from mpox import checkpoints, folders, processes, table
    from mpox.diffusion import lora, sampling

    process = processes.start()
    if process.is_main_process:  # on several machines the others may look before DVC clears them
        folders.check_vacant(out)
    processes.check_precision("generate.precision", params.generate.precision)
    settings = {"generate": params.generate, "resolution": params.resolution, "seed": params.seed}
    model, weights = Path(params.model.path), adapter / lora.FILE_NAME
    work = checkpoints.folder("generate", settings, [model, weights])
    pictures = work / "pictures"
    drawn = sampling.generate(
        model, adapter, pictures, params.generate, params.resolution, params.seed
    )
    if process.is_main_process:
        prompts = [params.generate.prompt, params.generate.negative_prompt]
        rows = {name: [*prompts, seed] for name, seed in drawn.items()}
        table.write(pictures, ["text", "negative_prompt", "seed"], rows)
        folders.copy(pictures, out)
        checkpoints.finish(work)
        checkpoints.sweep("train_lora")
    process.destroy_process_group()


if __name__ == "__main__":
    run(main)
