"""Downloads Stable Diffusion 1.x: `python -m stages.download REPOSITORY FOLDER`."""

import os
import shutil
import sys
from pathlib import Path

import stages
from mpox.core.errors import InputError
from mpox.params import Params, read
from stages import inputs

# Model card, networks as safetensors, tokenizer and schedule; no pickles, no safety checker.
FILES = (
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def main(repository: str, revision: str, folder: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "0"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    reason = "there is no network"
    try:
        snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=list(FILES)
        )
    except (HTTPError, OSError, RuntimeError) as error:  # RuntimeError: the storage, Xet
        reason = str(error).rstrip(".")
    # Without a network the library may return without an error.
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        files = "\n  ".join(missing)
        sys.exit(
            f"error: {repository} could not be downloaded: {reason}.\nDownload these files of "
            f"revision {revision} on another computer:\n  {files}\nPut them, in their folders, "
            f"into {folder}, and run `dvc commit -f models/dvc.yaml:sd15@{revision}`."
        )
    shutil.rmtree(folder / ".cache", ignore_errors=True)


if __name__ == "__main__":
    with stages.plain_errors(), inputs.unchanged():
        revisions = read(Path("params.yaml"), Params).model.download
        if not revisions:
            raise InputError("model.download: got [], expected the revision to download")
        main(sys.argv[1], revisions[0], Path(sys.argv[2]))
