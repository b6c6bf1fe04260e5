"""Pretrains `models/tiny-sd`: Stable Diffusion's architecture, small enough for git.

The codec (AutoencoderKL) sees phantoms of every kind, as Stable Diffusion's saw every sort of
picture; the UNet and the text encoder never see mpox, so that a LoRA has something to learn.
"""

import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from dvclive import Live
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mpox import images, loss, phantom, seeds
from mpox.params import TinySD

logger = logging.getLogger(__name__)

EVERY = 250  # steps between checkpoints and logged losses
WORD_END = "</w>"


def pretrain(out: Path, work: Path, settings: TinySD) -> None:
    """Writes the folder `out`, loadable by `StableDiffusionPipeline.from_pretrained`, fp16 storage.

    `work` holds drawn pictures and checkpoints; a killed run goes on there where it stopped.
    """
    with Live(str(work / "curves"), dvcyaml=None, save_dvc_exp=False, resume=True) as live:
        codec = _train_codec(work, settings, live)
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


def _captions(kinds: list[str], settings: TinySD, step: int, chosen: Tensor) -> list[str]:
    """A wording for each chosen picture, anew at every step; one in ten is empty, for guidance."""
    rng = np.random.default_rng(seeds.derive(settings.seed, "caption", step))
    return [
        phantom.caption(
            kinds[i], phantom.patient(kinds[i], i % settings.pictures, settings.seed).tone, rng
        )
        * (rng.uniform() > 0.1)
        for i in chosen.tolist()
    ]


def _tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level BPE with the words of the captions (mpox among them) as merges."""
    rng = np.random.default_rng(0)
    corpus = [
        phantom.caption(kind, tone, rng)
        for kind in phantom.KINDS
        for tone in np.linspace(0, 1, 400, endpoint=False)
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
    codec = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * len(settings.codec_channels),
        up_block_types=["UpDecoderBlock2D"] * len(settings.codec_channels),
        block_out_channels=settings.codec_channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=settings.resolution,
        mid_block_add_attention=False,
    ).to(memory_format=torch.channels_last)
    pictures, _ = _draw(phantom.KINDS, settings, work)
    half = settings.resolution // 2

    def step_loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seeds.derive(settings.seed, "codec", step))
        whole = step >= 0.6 * settings.codec_steps
        number = settings.codec_batch_size // (4 if whole else 1)
        batch = pictures[torch.randint(len(pictures), (number,), generator=rng)]
        if not whole:
            y, x = torch.randint(half, (2,), generator=rng).tolist()
            batch = batch[:, :, y : y + half, x : x + half]
        batch = batch / 127.5 - 1
        posterior = codec.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=rng)
        decoded = codec.decode(posterior.mean + posterior.std * noise).sample
        edges = sum((decoded.diff(dim=d) - batch.diff(dim=d)).abs().mean() for d in (2, 3))
        return (decoded - batch).abs().mean() + edges + 1e-6 * posterior.kl().mean()

    _fit(
        nn.ModuleDict({"codec": codec}), step_loss, settings.codec_steps,
        settings.codec_learning_rate, work / "codec.safetensors", "codec", live,
    )  # fmt: skip
    latents = torch.cat(list(_encode(codec, pictures[:: max(1, len(pictures) // 500)])))
    codec.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return codec.eval()


@torch.no_grad()
def _encode(codec: AutoencoderKL, pictures: Tensor) -> Iterator[Tensor]:
    for batch in tqdm(pictures.split(64), desc="encode"):
        yield codec.encode(batch / 127.5 - 1).latent_dist.mean


def _train_denoiser(
    codec: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path, settings: TinySD, live: Live
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """UNet and text encoder together, on captioned phantoms of every kind but mpox."""
    torch.manual_seed(settings.seed)
    width = settings.text_width
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
    )
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
    ).to(memory_format=torch.channels_last)
    pictures, kinds = _draw(tuple(k for k in phantom.KINDS if k != "mpox"), settings, work)
    latents = torch.cat(list(_encode(codec, pictures))) * codec.config.scaling_factor
    alphas = _noise_schedule().alphas_cumprod

    def step_loss(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seeds.derive(settings.seed, "denoiser", step))
        chosen = torch.randint(len(latents), (settings.unet_batch_size,), generator=rng)
        x0 = latents[chosen]
        t = torch.randint(len(alphas), (len(x0),), generator=rng)
        epsilon = torch.randn(x0.shape, generator=rng)
        words = tokenizer(
            _captions(kinds, settings, step, chosen),
            padding="max_length", truncation=True, return_tensors="pt",
        )  # fmt: skip
        states = text(words.input_ids)[0]
        predicted = unet(loss.add_noise(x0, epsilon, alphas[t]), t, states).sample
        return (loss.min_snr_weight(alphas[t], 5.0) * loss.mse(predicted, epsilon)).mean()

    averaged = _fit(
        nn.ModuleDict({"unet": unet, "text": text}), step_loss, settings.unet_steps,
        settings.unet_learning_rate, work / "denoiser.safetensors", "denoiser", live,
    )  # fmt: skip
    unet.load_state_dict(averaged["unet"].state_dict())
    text.load_state_dict(averaged["text"].state_dict())
    return unet.eval(), text.eval()


def _fit(
    model: nn.ModuleDict,
    step_loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    name: str,
    live: Live,
) -> nn.ModuleDict:
    """Trains `model`: AdamW, warm-up, cosine. Returns its moving average (decay 0.999).

    `step_loss(step)` draws everything from the step's number, so a resumed run repeats exactly.
    """
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    done = _resume(checkpoint, model, averaged, optimizer) if checkpoint.exists() else 0
    total = 0.0
    for step in tqdm(range(done, steps), desc=name, initial=done, total=steps, mininterval=10):
        warm = min(1.0, (step + 1) / 200)
        cosine = 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * max(cosine, 0.01)
        value = step_loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        total += value.item()
        if (step + 1) % EVERY == 0:
            live.log_metric(f"{name}/loss", total / EVERY, plot=True)
            live.next_step()
            logger.info("%s step %d loss %.4f", name, step + 1, total / EVERY)
            total = 0.0
            _save(checkpoint, model, averaged, optimizer, step + 1)
    return cast(nn.ModuleDict, averaged.module)


def _save(checkpoint: Path, model, averaged, optimizer, done: int) -> None:
    moments = optimizer.state_dict()["state"]
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"averaged/{k}": v for k, v in averaged.state_dict().items()}
    tensors |= {f"adam/{i}/{k}": v for i, state in moments.items() for k, v in state.items()}
    tensors["done"] = torch.tensor(done)
    temporary = checkpoint.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)
    temporary.replace(checkpoint)


def _resume(checkpoint: Path, model, averaged, optimizer) -> int:
    tensors = load_file(checkpoint)

    def part(name: str) -> dict[str, Tensor]:
        prefix = f"{name}/"
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model"))
    averaged.load_state_dict(part("averaged"))
    state = optimizer.state_dict()
    moments = itertools.groupby(part("adam").items(), key=lambda item: int(item[0].split("/")[0]))
    state["state"] = {i: {k.split("/")[1]: v for k, v in group} for i, group in moments}
    optimizer.load_state_dict(state)
    return int(tensors["done"])
