"""SD 1.5's exact configuration with random weights: `python benchmarks/sd15_geometry.py FOLDER`.

Its pictures are noise, but it takes the time and memory of the real one. The tokenizer is that of
the embedded base.
"""

import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).parents[1]


def write(folder: Path) -> None:
    """A folder as `stable-diffusion-v1-5/stable-diffusion-v1-5`'s, fp16 storage (2.1 GB)."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        unet = UNet2DConditionModel(
            sample_size=64, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
            cross_attention_dim=768, attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )  # fmt: skip
        vae = AutoencoderKL(
            sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
            latent_channels=4, scaling_factor=0.18215,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text = CLIPTextModel(  # ViT-L/14's
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=768,
                intermediate_size=3072,
                projection_dim=768,
                num_hidden_layers=12,
                num_attention_heads=12,
                max_position_embeddings=77,
                hidden_act="quick_gelu",
            )
        )
    StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=CLIPTokenizer.from_pretrained(ROOT / "models/tiny-sd/tokenizer"),
        unet=unet.half(),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
            skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


if __name__ == "__main__":
    write(Path(sys.argv[1]))
