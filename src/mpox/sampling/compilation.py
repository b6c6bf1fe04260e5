"""Compilation of the UNet's blocks, asked for by accelerate's variables (docs/scaling.md)."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate.utils import DynamoBackend, TorchDynamoPlugin
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from mpox.model import checkpoints

CACHE = "TORCHINDUCTOR_CACHE_DIR"
BLOCKS = (Transformer2DModel, ResnetBlock2D)
# All blocks share one code object, whose compiled forms are counted together. SD 1.5 has 38 blocks
# and a step up to four forms of each: two shapes, where micro-batches do not divide it, with the
# adapter and, for the base's prediction, without. Beyond the limit (torch's is 8) a block would run
# uncompiled, and nothing but its time would show it.
LIMIT = 256


def asked() -> TorchDynamoPlugin | None:
    """What ACCELERATE_DYNAMO_BACKEND and its siblings say; None: nothing is to be compiled."""
    plugin = TorchDynamoPlugin()
    return None if plugin.backend == DynamoBackend.NO else plugin


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """Has each residual block and each transformer compiled when first called, where asked for.

    In place: accelerate's regional compilation wraps modules, and of a wrapped `conv_norm_out`
    diffusers' `if self.conv_norm_out:` asks the length, a TypeError (pytorch issue 196253). For
    each shape anew (`dynamic=False`): shapes are few, and code for any shape is slower.
    What was compiled stays in .checkpoints, for the next run.
    """
    plugin = asked()
    if plugin is None:
        return
    if os.environ.get(CACHE) in (None, default_cache_dir()):  # torch names its own, on import
        os.environ[CACHE] = str((checkpoints.root() / "compiled").resolve())
    torch._dynamo.config.recompile_limit = LIMIT
    for block in unet.modules():
        if isinstance(block, BLOCKS):
            block.compile(**plugin.to_kwargs() | {"dynamic": False})


def paused() -> AbstractContextManager:
    """Within it compiled blocks run as they are: batches that come seldom are not worth compiling.

    Compiled before the training step's, they would have its shape taken for a variable one, too.
    """
    return torch.compiler.set_stance("force_eager") if asked() else nullcontext()
