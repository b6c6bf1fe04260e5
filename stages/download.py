"""Downloads a base model: `python -m stages.download REPOSITORY REVISION FOLDER`."""

import os
import shutil
import sys
from pathlib import Path

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
FILES = ("*.json", "*.txt", "model.safetensors", "diffusion_pytorch_model.safetensors")


def main(repository: str, revision: str, folder: Path) -> None:
    """The four networks' safetensors, tokenizer and scheduler: no pickle, no safety checker."""
    os.environ["HF_HUB_OFFLINE"] = "0"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["model_index.json"]
    wanted += [f"{part}/{name}" for part in PARTS for name in FILES]
    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=wanted)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        sys.exit(
            f"error: {repository} at {revision} cannot be downloaded: {error}\n"
            "Where there is a network, fetch these files of that revision and put them, with "
            f"their folders, into {folder}:\n  "
            + "\n  ".join(wanted)
            + "\nthen run `dvc commit models/sd15/dvc.yaml`."
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
