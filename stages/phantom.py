"""Draws the embedded photos: `python -m stages.phantom PHOTOS CONTROLS`."""

from pathlib import Path

from mpox.params import Phantoms
from stages import run


def main(params: Phantoms, photos: Path, controls: Path) -> None:
    """Mpox phantoms as `mpox_p<patient>_<picture>.jpg`, each look-alike kind in its own folder."""
    from tqdm import tqdm

    from mpox.core import images
    from mpox.embedded import phantom

    kinds = {"mpox": params.patients, **params.controls.model_dump()}
    for kind, patients in kinds.items():
        folder = photos if kind == "mpox" else controls / kind
        folder.mkdir(parents=True, exist_ok=True)
        for patient in tqdm(range(patients), desc=f"draw {kind}", unit="patient"):
            for picture in range(params.pictures):
                drawn = phantom.draw(kind, patient, picture, params.seed, params.size)
                images.write(folder / f"{kind}_p{patient:03d}_{picture}.jpg", drawn.picture)


if __name__ == "__main__":
    run(main, "params/phantom.yaml", Phantoms)
