"""Compilation of the UNet's blocks, switched on by accelerate's variables (docs/hardware.md)."""

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
# All blocks share one code object, so torch counts their compiled forms together. SD 1.5 has 38
# blocks, and a step needs up to four forms of each: two batch sizes if micro-batches do not divide
# the batch, each with and without the adapter. Beyond the limit (8 by default) a block would
# silently run uncompiled.
LIMIT = 256


def requested() -> TorchDynamoPlugin | None:
    """The settings in ACCELERATE_DYNAMO_BACKEND and its siblings; None: compile nothing."""
    plugin = TorchDynamoPlugin()
    return None if plugin.backend == DynamoBackend.NO else plugin


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """If requested, compiles each residual block and each transformer on its first call.

    Blocks are compiled in place. Accelerate's regional compilation wraps modules instead, which
    ends in a TypeError in diffusers' `if self.conv_norm_out:` (pytorch issue 196253). Each shape
    is compiled separately (`dynamic=False`): there are few, and code for all shapes is slower.
    The compiled code stays in .checkpoints for the next run.
    """
    plugin = requested()
    if plugin is None:
        return
    if os.environ.get(CACHE) in (None, default_cache_dir()):  # torch sets its default on import
        os.environ[CACHE] = str((checkpoints.root() / "compiled").resolve())
    torch._dynamo.config.recompile_limit = LIMIT
    for block in unet.modules():
        if isinstance(block, BLOCKS):
            block.compile(**plugin.to_kwargs() | {"dynamic": False})


def paused() -> AbstractContextManager:
    """A context in which blocks run uncompiled, for batches too rare to be worth compiling.

    If these were compiled before the training step, torch would also treat its shape as variable.
    """
    return torch.compiler.set_stance("force_eager") if requested() else nullcontext()
