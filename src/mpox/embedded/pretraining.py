"""Pretrains `models/tiny-sd`: Stable Diffusion's architecture, small enough for git.

The codec (AutoencoderKL) is trained on phantoms of every kind, as Stable Diffusion's was trained on
every sort of picture. The UNet and the text encoder never see mpox: a LoRA has something to learn.
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from dvclive import Live
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from mpox.core import images, seeds
from mpox.embedded import networks, phantom, words
from mpox.model import checkpoints, loss
from mpox.params import TinySD

logger = logging.getLogger(__name__)

EVERY = 250  # steps between checkpoints and logged losses
KL_WEIGHT = 1e-6  # of the codec's loss, as in Stable Diffusion
WINDOW, HOP = 8, 4  # pixels: side of the windows of local spectra, and from one to the next
SPECTRUM_WEIGHT = 10.0  # relative to L1 in pixels
SPECTRUM_EPSILON = 1e-5  # power; about the rounding noise of 8 bits in −1 … 1
CAPTION_DROPOUT = 0.1  # share of empty captions, for guidance
MIN_SNR = 5.0  # γ of the denoiser's loss


class Training(NamedTuple):
    """What the trainings of the three networks share."""

    settings: TinySD
    work: Path  # drawn pictures and checkpoints
    live: Live


class Course(NamedTuple):
    """One training; `loss` takes the number of a step and draws everything from it."""

    name: str
    steps: int
    learning_rate: float
    loss: Callable[[int], Tensor]


def pretrain(out: Path, work: Path, settings: TinySD) -> None:
    """Writes the folder `out`, loadable by `StableDiffusionPipeline.from_pretrained`, fp16 storage.

    `work` holds drawn pictures and checkpoints, from which a killed run resumes. On a GPU if there
    is one.
    """
    with Live(str(work / "curves"), dvcyaml=None, save_dvc_exp=False, resume=True) as live:
        training = Training(settings, work, live)
        codec = _train_codec(training)
        _train_texture(codec, training)
        tokenizer = networks.tokenizer()
        unet, text = _train_denoiser(codec, tokenizer, training)
    pipeline = StableDiffusionPipeline(
        vae=codec,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=networks.noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # diffusers loads fp16 files as fp32; transformers would keep fp16, so the text encoder is not
    # halved.
    codec.half()
    unet.half()
    pipeline.save_pretrained(out)
    shutil.copytree(work / "curves", out / "curves", dirs_exist_ok=True)


# ---------------------------------------------------------------- pictures and captions


def _draw(kinds: tuple[str, ...], training: Training) -> tuple[Tensor, list[str]]:
    """`settings.pictures` phantoms a kind, each its own patient: uint8 (N, 3, H, W), and the kinds.

    The seed differs from that of the phantom photos: no picture of `data/phantom` is seen here.
    """
    settings, work = training.settings, training.work
    for kind in kinds:
        file = work / f"{kind}.npy"
        if not file.exists():
            drawn = (
                images.square(phantom.draw(kind, i, 0, settings.seed).picture, settings.resolution)
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
    """Every wording for each of the pictures that `_draw` returns."""
    return [
        words.captions(kind, phantom.patient(kind, i % settings.pictures, settings.seed).tone)
        for i, kind in enumerate(kinds)
    ]


def _tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    padded = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    return padded.input_ids


# ---------------------------------------------------------------- the codec


def _train_codec(training: Training) -> AutoencoderKL:
    """L1 on pixels and on their differences (edges), a trace of KL; on crops, then whole pictures.

    GroupNorm sees other statistics in a crop than in a whole picture. Without the whole pictures at
    the end, reconstructions shift in tone.
    """
    settings = training.settings
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = networks.codec(settings).to(device, memory_format=torch.channels_last)
    pictures = _draw(phantom.KINDS, training)[0].to(device)
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

    course = Course("codec", settings.codec_steps, settings.codec_learning_rate, step_loss)
    _fit(nn.ModuleDict({"codec": codec}), course, training)
    latents = torch.cat(list(_encode(codec, pictures[:: max(1, len(pictures) // 500)])))
    codec.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return codec.eval()


def _train_texture(codec: AutoencoderKL, training: Training) -> None:
    """Trains the decoder alone to paint the grain of skin and sensor, which L1 would smooth away.

    Detail too fine for the latents needs the right strength and scale, not the right place. So, as
    in vocoders, the loss compares magnitudes of spectra in overlapping windows and leaves phases
    free (Yamamoto et al. 2020, "Parallel WaveGAN", section 2.2; here in two dimensions, and with
    power averaged over neighbouring windows).
    """
    settings = training.settings
    pictures = _draw(phantom.KINDS, training)[0].to(codec.device)

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

    course = Course("texture", settings.texture_steps, settings.codec_learning_rate, step_loss)
    decoder = nn.ModuleDict({"conv": codec.post_quant_conv, "decoder": codec.decoder})
    _fit(decoder, course, training)


def _spectra(pictures: Tensor) -> Tensor:
    """Magnitudes of local spectra of pictures (B, C, S, S): (B, C × WINDOW × (WINDOW/2 + 1), P, P).

    Each is the root mean square over 3 × 3 windows. For white noise it is the standard deviation,
    at every frequency.
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


# ---------------------------------------------------------------- the denoiser


def _train_denoiser(
    codec: AutoencoderKL, tokenizer: CLIPTokenizer, training: Training
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder together, on captioned phantoms of every kind but mpox."""
    settings, device = training.settings, codec.device
    torch.manual_seed(settings.seed)
    text = networks.text_encoder(tokenizer, settings).to(device)
    unet = networks.unet(settings, device)
    pictures, kinds = _draw(tuple(k for k in phantom.KINDS if k != "mpox"), training)
    latents = torch.cat(list(_encode(codec, pictures))) * codec.config.scaling_factor
    alphas = networks.noise_schedule().alphas_cumprod.to(device)
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
        caption = tokens[row[chosen].to(device), wording.to(device)]
        caption[(torch.rand(len(chosen), generator=rng) < CAPTION_DROPOUT).to(device)] = empty
        noisy = loss.add_noise(x0, epsilon, alphas[t])
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.unet_precision == "bf16"):
            predicted = unet(noisy, t, text(caption)[0]).sample.float()
        return (loss.min_snr_weight(alphas[t], MIN_SNR) * loss.mse(predicted, epsilon)).mean()

    course = Course("denoiser", settings.unet_steps, settings.unet_learning_rate, step_loss)
    averaged = _fit(nn.ModuleDict({"unet": unet, "text": text}), course, training)
    unet.load_state_dict(averaged["unet"].state_dict())
    text.load_state_dict(averaged["text"].state_dict())
    return unet.eval(), text.eval()


# ---------------------------------------------------------------- the loop


def _fit(model: nn.ModuleDict, course: Course, training: Training) -> nn.ModuleDict:
    """Trains `model`: AdamW, warm-up, cosine. Returns its moving average (decay 0.999)."""
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.learning_rate, weight_decay=1e-4)
    parts: dict[str, Any] = {"model": model, "averaged": averaged, "optimizer": optimizer}
    done, checkpoint = 0, training.work / f"{course.name}.pt"
    if checkpoint.exists():
        state = checkpoints.load(checkpoint)
        done = state["done"]
        for key, part in parts.items():
            part.load_state_dict(state[key])
    total: float | Tensor = 0.0
    bar = tqdm(desc=course.name, initial=done, total=course.steps, mininterval=10)
    for step in range(done, course.steps):
        warm = min(1.0, (step + 1) / 200)
        cosine = 0.5 * (1 + math.cos(math.pi * step / course.steps))
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * warm * max(cosine, 0.01)
        value = course.loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        bar.update()
        total = total + value.detach()  # stays on the GPU, which item() would wait for
        if (step + 1) % EVERY == 0:
            mean = float(total) / EVERY
            training.live.log_metric(f"{course.name}/loss", mean, plot=True)
            training.live.next_step()
            logger.info("%s step %d loss %.4f", course.name, step + 1, mean)
            total = 0.0
            state = {key: part.state_dict() for key, part in parts.items()}
            checkpoints.save({"done": step + 1, **state}, checkpoint)
    bar.close()
    return cast(nn.ModuleDict, averaged.module)
