"""Posteriors against the VAE, one picture at a time, with diffusers' preprocessing."""

import numpy as np
import pytest
import torch
from conftest import RESOLUTION
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from mpox.core import images, listing
from mpox.model import latents


@pytest.fixture(scope="module")
def vae(tiny_sd) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_sd, subfolder="vae")


def test_posteriors_are_those_of_the_vae_scaled_and_in_order(vae, augmented):
    files = listing.find(augmented)[0]
    assert len(files) > latents.BATCH
    encoded = latents.encode(vae, files[::-1], RESOLUTION, "pictures")
    processor = VaeImageProcessor()
    size = (RESOLUTION, RESOLUTION)
    for number, file in enumerate(files[::-1]):
        picture = Image.open(file).convert("RGB").resize(size, Image.Resampling.LANCZOS)
        with torch.no_grad():
            expected = vae.encode(processor.preprocess(picture)).latent_dist
        scale = 0.18215
        torch.testing.assert_close(encoded.mean[number], expected.mean[0] * scale)
        torch.testing.assert_close(encoded.std[number], expected.std[0] * scale)
    assert encoded.mean.shape == (6, 4, 8, 8) and encoded.mean.dtype == torch.float32
    assert not encoded.mean.requires_grad


def test_a_reconstruction_equals_diffusers_encode_and_decode(vae, augmented):
    files = listing.find(augmented)[0]
    pictures = np.stack([images.square(images.read(file), RESOLUTION) for file in files])
    decoded = latents.reconstruct(vae, pictures)
    assert decoded.shape == pictures.shape and decoded.dtype == np.uint8
    processor = VaeImageProcessor()
    for picture, ours in zip(pictures, decoded, strict=True):
        with torch.no_grad():
            latent = vae.encode(processor.preprocess(Image.fromarray(picture))).latent_dist.mode()
            plain = processor.postprocess(vae.decode(latent).sample, "pil")[0]
        assert np.abs(np.asarray(plain).astype(int) - ours).max() <= 1


def test_a_draw_uses_mean_and_std_of_the_chosen_pictures():
    mean = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 2, 2)
    posterior = latents.Posterior(mean, 10 * mean)
    epsilon = torch.randn((2, 4, 2, 2), generator=torch.Generator().manual_seed(0))
    drawn = posterior.draw(torch.tensor([2, 0]), epsilon)
    assert torch.equal(drawn[0], 2 + 20 * epsilon[0])
    assert torch.equal(drawn[1], torch.zeros((4, 2, 2)))
