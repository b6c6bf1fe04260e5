"""Does it help a classifier? Compares classifiers with and without the synthetic pictures.

python -m stages.utility PREPARED CONTROLS VARIANTS CONTROL_VARIANTS SYNTHETIC BASE METRICS TABLE

The first six are folders that prepare, augment, generate and draw_base wrote; METRICS (JSON) and
TABLE (CSV) are the files to write.
"""

from pathlib import Path

from mpox.params import Params
from stages import run


def main(
    params: Params,
    prepared: Path,
    controls: Path,
    variants: Path,
    control_variants: Path,
    synthetic: Path,
    placebo: Path,
    metrics: Path,
    table: Path,
) -> None:
    from mpox.core import folders
    from mpox.model import checkpoints
    from mpox.utility import arms_csv, trial
    from mpox.utility.photos import Pictures

    work = None
    if params.utility.classifier == "cnn":
        side, seed = params.resolution, params.seed
        used = {"utility": params.utility, "resolution": side, "seed": seed}
        inputs = [prepared, controls, synthetic, placebo, Path(params.model.path)]
        work = checkpoints.folder("utility", used, inputs)
    pictures = Pictures.read(prepared, controls, variants, control_variants, synthetic, placebo)
    settings = trial.Settings(
        params.seed, params.resolution, params.model, params.data, params.evaluate, params.utility
    )
    result = trial.run(pictures, settings, work)
    folders.write(table, arms_csv.to_csv(result.rows))
    result.metrics.write(metrics)
    if work:
        checkpoints.finish(work)


if __name__ == "__main__":
    run(main)
