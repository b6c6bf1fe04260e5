"""The LoRA for ComfyUI or AUTOMATIC1111, in kohya's format: `python -m stages.export LORA FILE`.

LORA is the folder that `train_lora` wrote, or a `checkpoint-N` in it; FILE the .safetensors file to
write. No stage of DVC's: nothing follows from the file.
"""

import sys
from pathlib import Path

import stages


def main(adapter: Path, file: Path) -> None:
    from mpox.diffusion import kohya

    kohya.export(adapter, file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {__doc__}")
    with stages.plain_errors():
        main(*map(Path, sys.argv[1:]))
