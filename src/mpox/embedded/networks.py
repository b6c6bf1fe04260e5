"""The parts of `models/tiny-sd`: Stable Diffusion's classes, small enough for git."""

import json

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mpox.embedded import words
from mpox.params import TinySD

WORD_END = "</w>"


def codec(settings: TinySD) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * len(settings.codec_channels),
        up_block_types=["UpDecoderBlock2D"] * len(settings.codec_channels),
        block_out_channels=settings.codec_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=settings.resolution,
        mid_block_add_attention=False,
    )


def text_encoder(tokenizer: CLIPTokenizer, settings: TinySD) -> CLIPTextModel:
    width = settings.text_width
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def unet(settings: TinySD, device: torch.device) -> UNet2DConditionModel:
    levels = len(settings.unet_channels)
    model = UNet2DConditionModel(
        sample_size=settings.resolution // 2 ** (len(settings.codec_channels) - 1),
        block_out_channels=settings.unet_channels,
        # As in SD 1.5, every level but the coarsest attends. A LoRA changes only what attends, so
        # without attention at the finest level it could not paint small details.
        down_block_types=["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        layers_per_block=1,
        cross_attention_dim=settings.text_width,
        attention_head_dim=4,
        norm_num_groups=8,
    ).to(device, memory_format=torch.channels_last)
    if settings.unet_precision == "bf16" and device.type == "cpu":
        # PyTorch's fused attention is slow there: its backward pass takes a third of a step.
        model.set_attn_processor(AttnProcessor())
    return model


def noise_schedule() -> PNDMScheduler:
    """The schedule of Stable Diffusion 1.5: scaled-linear β, 0.00085 to 0.012, 1,000 steps."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with the words of the captions (mpox among them) as merges."""
    corpus = [
        wording
        for kind in words.NAMES
        for tone in np.linspace(0, 1, 20, endpoint=False)
        for wording in words.captions(kind, tone)
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=1000,
            end_of_word_suffix=WORD_END,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + [b + WORD_END for b in alphabet] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
