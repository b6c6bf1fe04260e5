"""Draws the embedded photos: `python -m stages.phantom PHOTOS`."""

from pathlib import Path

from mpox.params import Phantoms
from stages import run


def main(params: Phantoms, out: Path) -> None:
    """Mpox phantoms as `mpox_p<patient>_<picture>.jpg`."""
    from tqdm import tqdm

    from mpox import images
    from mpox.embedded import phantom

    out.mkdir(parents=True, exist_ok=True)
    for patient in tqdm(range(params.patients), desc="draw", unit="patient"):
        for picture in range(params.pictures):
            drawn = phantom.draw("mpox", patient, picture, params.seed, params.size)
            images.write(out / f"mpox_p{patient:03d}_{picture}.jpg", drawn.picture)


if __name__ == "__main__":
    run(main, "params/phantom.yaml", Phantoms)
