"""Pretrains `models/tiny-sd`: Stable Diffusion's architecture, small enough for git.

The codec (AutoencoderKL) sees phantoms of every kind, as Stable Diffusion's saw every sort of
picture; the UNet and the text encoder never see mpox, so that a LoRA has something to learn.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from dvclive import Live
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mpox.core import images, seeds
from mpox.embedded import phantom
from mpox.model import checkpoints, loss
from mpox.params import TinySD

logger = logging.getLogger(__name__)

EVERY = 250  # steps between checkpoints and logged losses
KL_WEIGHT = 1e-6  # of the codec, as Stable Diffusion's
WINDOW, HOP = 8, 4  # pixels: side of the windows of local spectra, and from one to the next
SPECTRUM_WEIGHT = 10.0  # beside L1 in pixels
SPECTRUM_EPSILON = 1e-5  # power; about the rounding noise of 8 bits in −1 … 1
CAPTION_DROPOUT = 0.1  # share of empty captions, for guidance
MIN_SNR = 5.0  # γ of the denoiser's loss
WORD_END = "</w>"


def pretrain(out: Path, work: Path, settings: TinySD) -> None:
    """Writes the folder `out`, loadable by `StableDiffusionPipeline.from_pretrained`, fp16 storage.

    `work` holds drawn pictures and checkpoints; a killed run goes on there where it stopped. On a
    GPU if there is one.
    """
    with Live(str(work / "curves"), dvcyaml=None, save_dvc_exp=False, resume=True) as live:
        codec = _train_codec(work, settings, live)
        _train_texture(codec, work, settings, live)
        tokenizer = _tokenizer()
        unet, text = _train_denoiser(codec, tokenizer, work, settings, live)
    pipeline = StableDiffusionPipeline(
        vae=codec,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Stored as fp16, loaded as fp32 by diffusers; transformers would load an fp16 file as fp16.
    codec.half()
    unet.half()
    pipeline.save_pretrained(out)
    shutil.copytree(work / "curves", out / "curves", dirs_exist_ok=True)


# ---------------------------------------------------------------- pictures and words


def _draw(kinds: tuple[str, ...], settings: TinySD, work: Path) -> tuple[Tensor, list[str]]:
    """`settings.pictures` phantoms a kind, each its own patient: uint8 (N, 3, H, W), and the kinds.

    The seed is not the phantom photos', so no picture of `data/phantom` is ever seen here.
    """
    size = settings.resolution
    for kind in kinds:
        file = work / f"{kind}.npy"
        if not file.exists():
            drawn = (
                images.square(phantom.draw(kind, i, 0, settings.seed).picture, size)
                for i in tqdm(range(settings.pictures), desc=f"draw {kind}")
            )
            partial = work / f"{kind}.partial.npy"
            np.save(partial, np.stack(list(drawn)))
            partial.replace(file)
    pictures = np.concatenate([np.load(work / f"{kind}.npy") for kind in kinds])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), [
        kind for kind in kinds for _ in range(settings.pictures)
    ]


def _captions(kinds: list[str], settings: TinySD) -> list[tuple[str, ...]]:
    """Every wording of each of `_draw`'s pictures."""
    return [
        phantom.captions(kind, phantom.patient(kind, i % settings.pictures, settings.seed).tone)
        for i, kind in enumerate(kinds)
    ]


def _tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    padded = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    return padded.input_ids


def _tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with the words of the captions (mpox among them) as merges."""
    corpus = [
        wording
        for kind in phantom.KINDS
        for tone in np.linspace(0, 1, 20, endpoint=False)
        for wording in phantom.captions(kind, tone)
    ]
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=1000,
            end_of_word_suffix=WORD_END,
            initial_alphabet=bytes_,
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    words = bytes_ + [b + WORD_END for b in bytes_] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


# ---------------------------------------------------------------- the three networks


def _noise_schedule() -> PNDMScheduler:
    """Stable Diffusion 1.5's own: scaled-linear β from 0.00085 to 0.012 over 1,000 steps."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _train_codec(work: Path, settings: TinySD, live: Live) -> AutoencoderKL:
    """L1 on pixels and on their differences (edges), a trace of KL; on crops, then whole pictures.

    GroupNorm sees other statistics in a crop than in a picture: without the whole pictures at the
    end, reconstructions shift in tone.
    """
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * len(settings.codec_channels),
        up_block_types=["UpDecoderBlock2D"] * len(settings.codec_channels),
        block_out_channels=settings.codec_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=settings.resolution,
        mid_block_add_attention=False,
    ).to(device, memory_format=torch.channels_last)
    pictures = _draw(phantom.KINDS, settings, work)[0].to(device)
    half = settings.resolution // 2

    def step_loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seeds.derive(settings.seed, "codec", step))
        whole = step >= 0.6 * settings.codec_steps
        number = settings.codec_batch_size // (4 if whole else 1)
        batch = pictures[torch.randint(len(pictures), (number,), generator=rng).to(device)]
        if not whole:
            y, x = torch.randint(half, (2,), generator=rng).tolist()
            batch = batch[:, :, y : y + half, x : x + half]
        batch = batch / 127.5 - 1
        posterior = codec.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(device)
        decoded = codec.decode(posterior.mean + posterior.std * noise).sample
        edges = sum((decoded.diff(dim=d) - batch.diff(dim=d)).abs().mean() for d in (2, 3))
        return (decoded - batch).abs().mean() + edges + KL_WEIGHT * posterior.kl().mean()

    _fit(
        nn.ModuleDict({"codec": codec}), step_loss, settings.codec_steps,
        settings.codec_learning_rate, work, "codec", live,
    )  # fmt: skip
    latents = torch.cat(list(_encode(codec, pictures[:: max(1, len(pictures) // 500)])))
    codec.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return codec.eval()


def _train_texture(codec: AutoencoderKL, work: Path, settings: TinySD, live: Live) -> None:
    """Teaches the decoder alone to paint the grain of skin and sensor, which L1 would smooth away.

    Detail too fine for the latents needs the right strength and scale, not the right place. So, as
    in vocoders, the loss compares magnitudes of spectra in overlapping windows and leaves phases
    free (Yamamoto et al. 2020, "Parallel WaveGAN", section 2.2; here in two dimensions, and with
    power averaged over neighbouring windows).
    """
    pictures = _draw(phantom.KINDS, settings, work)[0].to(codec.device)

    def step_loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seeds.derive(settings.seed, "texture", step))
        chosen = torch.randint(len(pictures), (settings.codec_batch_size // 2,), generator=rng)
        batch = pictures[chosen.to(codec.device)] / 127.5 - 1
        with torch.no_grad():
            posterior = codec.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng).to(codec.device)
        decoded = codec.decode(posterior.mean + posterior.std * noise).sample
        spectra = (_spectra(decoded) - _spectra(batch)).abs().mean()
        return (decoded - batch).abs().mean() + SPECTRUM_WEIGHT * spectra

    _fit(
        nn.ModuleDict({"conv": codec.post_quant_conv, "decoder": codec.decoder}), step_loss,
        settings.texture_steps, settings.codec_learning_rate, work, "texture", live,
    )  # fmt: skip


def _spectra(pictures: Tensor) -> Tensor:
    """Magnitudes of local spectra of pictures (B, C, S, S): (B, C × WINDOW × (WINDOW/2 + 1), P, P).

    Each is the root mean square over 3 × 3 windows: of white noise its standard deviation, at every
    frequency.
    """
    batch, channels, size, _ = pictures.shape
    places = (size - WINDOW) // HOP + 1
    hann = torch.hann_window(WINDOW + 2, periodic=False, device=pictures.device)[1:-1]
    windows = functional.unfold(pictures, WINDOW, stride=HOP)
    windows = windows.view(batch, channels, WINDOW, WINDOW, -1).permute(0, 4, 1, 2, 3)
    spectra = torch.fft.rfft2(windows * hann.outer(hann) / hann.square().sum())
    power = spectra.abs().square().reshape(batch, places, places, -1).permute(0, 3, 1, 2)
    return (functional.avg_pool2d(power, 3, stride=2) + SPECTRUM_EPSILON).sqrt()


@torch.no_grad()
def _encode(codec: AutoencoderKL, pictures: Tensor) -> Iterator[Tensor]:
    for batch in tqdm(pictures.to(codec.device).split(64), desc="encode"):
        yield codec.encode(batch / 127.5 - 1).latent_dist.mean


def _train_denoiser(
    codec: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path, settings: TinySD, live: Live
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder together, on captioned phantoms of every kind but mpox."""
    torch.manual_seed(settings.seed)
    device, width = codec.device, settings.text_width
    text = CLIPTextModel(
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
    ).to(device)
    levels = len(settings.unet_channels)
    unet = UNet2DConditionModel(
        sample_size=settings.resolution // 2 ** (len(settings.codec_channels) - 1),
        block_out_channels=settings.unet_channels,
        # As in SD 1.5 the coarsest level alone does not attend. LoRA changes only what attends:
        # without it at the finest level it could not paint what is small.
        down_block_types=["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        layers_per_block=1,
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=8,
    ).to(device, memory_format=torch.channels_last)
    if settings.unet_precision == "bf16" and device.type == "cpu":
        # PyTorch's fused attention is slow there: its backward pass takes a third of a step.
        unet.set_attn_processor(AttnProcessor())
    pictures, kinds = _draw(tuple(k for k in phantom.KINDS if k != "mpox"), settings, work)
    latents = torch.cat(list(_encode(codec, pictures))) * codec.config.scaling_factor
    alphas = _noise_schedule().alphas_cumprod.to(device)
    captions = _captions(kinds, settings)
    distinct = {wordings: place for place, wordings in enumerate(dict.fromkeys(captions))}
    tokens = torch.stack([_tokens(tokenizer, wordings) for wordings in distinct]).to(device)
    row = torch.tensor([distinct[wordings] for wordings in captions])
    empty = _tokens(tokenizer, [""])[0].to(device)

    def step_loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seeds.derive(settings.seed, "denoiser", step))
        chosen = torch.randint(len(latents), (settings.unet_batch_size,), generator=rng)
        t = torch.randint(len(alphas), (len(chosen),), generator=rng).to(device)
        epsilon = torch.randn((len(chosen), *latents.shape[1:]), generator=rng).to(device)
        x0 = latents[chosen.to(device)]
        wording = torch.randint(tokens.shape[1], (len(chosen),), generator=rng)
        words = tokens[row[chosen].to(device), wording.to(device)]
        words[(torch.rand(len(chosen), generator=rng) < CAPTION_DROPOUT).to(device)] = empty
        noisy = loss.add_noise(x0, epsilon, alphas[t])
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.unet_precision == "bf16"):
            predicted = unet(noisy, t, text(words)[0]).sample.float()
        return (loss.min_snr_weight(alphas[t], MIN_SNR) * loss.mse(predicted, epsilon)).mean()

    averaged = _fit(
        nn.ModuleDict({"unet": unet, "text": text}), step_loss, settings.unet_steps,
        settings.unet_learning_rate, work, "denoiser", live,
    )  # fmt: skip
    unet.load_state_dict(averaged["unet"].state_dict())
    text.load_state_dict(averaged["text"].state_dict())
    return unet.eval(), text.eval()


def _fit(
    model: nn.ModuleDict,
    step_loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    work: Path,
    name: str,
    live: Live,
) -> nn.ModuleDict:
    """Trains `model`: AdamW, warm-up, cosine. Returns its moving average (decay 0.999).

    `step_loss(step)` draws everything from the step's number, so a resumed run repeats exactly.
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    parts: dict[str, Any] = {"model": model, "averaged": averaged, "optimizer": optimizer}
    done, checkpoint = 0, work / f"{name}.pt"
    if checkpoint.exists():
        state = checkpoints.load(checkpoint)
        done = state["done"]
        for key, part in parts.items():
            part.load_state_dict(state[key])
    total: float | Tensor = 0.0
    for step in tqdm(range(done, steps), desc=name, initial=done, total=steps, mininterval=10):
        warm = min(1.0, (step + 1) / 200)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * max(cosine, 0.01)
        value = step_loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        total = total + value.detach()  # on a GPU nobody waits for it
        if (step + 1) % EVERY == 0:
            mean = float(total) / EVERY
            live.log_metric(f"{name}/loss", mean, plot=True)
            live.next_step()
            logger.info("%s step %d loss %.4f", name, step + 1, mean)
            total = 0.0
            state = {key: part.state_dict() for key, part in parts.items()}
            checkpoints.save({"done": step + 1, **state}, checkpoint)
    return cast(nn.ModuleDict, averaged.module)
