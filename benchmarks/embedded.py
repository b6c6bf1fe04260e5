"""Whether the embedded base paints skin, and its LoRA mpox: python benchmarks/embedded.py.

The judge is not the generator: logistic regression on EfficientNet-Lite0's features, fitted to
phantoms that neither the base nor the LoRA saw and to their reconstructions by the base's
autoencoder (a judge that never saw its blur calls most blurred pictures mpox). The LoRA and its
metrics are those of the last `dvc repro`. Prints a line a check, writes docs/embedded.jpg, and
exits with 1 if a check failed; some fifteen minutes on two cores.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
import stages  # noqa: F401
from mpox.core import images, listing
from mpox.core.picture_set import PictureSet
from mpox.embedded import phantom
from mpox.embedded.words import NAMES
from mpox.measures import frechet
from mpox.model import base, concepts, lora, loss
from mpox.params import Generate, Params, read
from mpox.pictures import features
from mpox.sampling import sampler
from mpox.sampling.sampler import Job, Sampler
from mpox.statistics.estimate import Metrics

PARAMS = read(ROOT / "params.yaml", Params, {})
SIDE = PARAMS.resolution
SEED = 31  # of the judge's phantoms: neither the photos' (params/phantom.yaml) nor the base's
FITTED, TESTED = 200, 100  # pictures a kind the judge learns from, and is tested on
DRAWN = 100  # pictures drawn of each kind
SHOWN = 10  # pictures in a row of the sheet
# Of the base alone, under its own captions: more steps mean more of the sampler's noise between
# them, and so more of the tones of skin.
STEPS = 40
PENALTY = 1e-3  # of the judge's squared weights, beside the mean loss
# Wordings that no caption has.
FREE = {
    "vesicle": "blisters on somebody's skin",
    "acne": "photo of pimples and inflamed skin",
    "naevus": "a mole, brown, close-up",
    "plaque": "scaly plaque photo",
    "healthy": "healthy skin, clear, without a lesion",
}
failed: list[str] = []
EXTRACTOR = features.load("efficientnet_lite0", None, torch.device("cpu"))


class Sets(NamedTuple):
    """Of one kind: phantoms, their reconstructions (uint8 N×S×S×3), the features of both (N×d)."""

    drawn: list[phantom.Phantom]
    decoded: np.ndarray
    real: np.ndarray
    coded: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """What Fréchet distances are measured from."""
        return self.real[FITTED:-TESTED]

    @property
    def floor(self) -> float:
        """Of the Fréchet distance: real pictures from real ones."""
        return frechet.distance(self.held, self.real[-TESTED:])


def main() -> None:
    if PARAMS.data.source != "data/phantom/photos":
        sys.exit("error: data.source is not data/phantom/photos: no photo may come into docs/")
    started = time.process_time()
    phantoms("mpox", TESTED)
    report("milliseconds a phantom", 1000 * (time.process_time() - started) / TESTED, most=15)
    pipeline = base.load(ROOT / PARAMS.model.path, SIDE)
    sets = {kind: collect(pipeline, kind) for kind in phantom.KINDS}
    judge = fit(sets)
    codec(sets, judge)
    painted, excess = alone(pipeline, sets, judge)
    with_lora(pipeline, sets["mpox"], judge, painted, excess)
    metrics = Metrics.read(ROOT / "metrics/evaluation.json")
    for name in ("ms_ssim", "coverage", "vendi_ratio", "copy_rate", "hash_rate"):
        found = metrics[name]
        print(f"{name}: {found.value:.4g}, real pictures in their place {found.null:.4g}")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def collect(pipeline, kind: str) -> Sets:
    drawn = phantoms(kind, FITTED + 2 * TESTED)
    pictures = np.stack([each.picture for each in drawn])
    decoded = reconstruct(pipeline, pictures)
    return Sets(drawn, decoded, look(pictures), look(decoded))


def fit(sets: dict[str, Sets]) -> Pipeline:
    """The judge, and how often it is right about what it has not seen."""
    fitted = [x[:FITTED] for each in sets.values() for x in (each.real, each.coded)]
    of = np.repeat(np.arange(len(sets)), 2 * FITTED)
    fit = LogisticRegression(C=1 / (2 * PENALTY * len(of)), max_iter=1000)
    judge = make_pipeline(StandardScaler(), fit).fit(np.concatenate(fitted), of)
    for name in ("real", "coded"):
        right = [
            judge.predict(getattr(each, name)[FITTED:]) == i for i, each in enumerate(sets.values())
        ]
        report(f"judge's accuracy, {name}", np.mean(right), 0.95)
    return judge


def codec(sets: dict[str, Sets], judge: Pipeline) -> None:
    """The autoencoder, on pictures it did not see."""
    for kind, each in sets.items():
        same = judge.predict(each.coded[FITTED:]) == judge.predict(each.real[FITTED:])
        report(f"reconstructed {kind}: same verdict", np.mean(same), 0.95)
        if kind != "healthy":
            inside = [
                psnr(one.picture[one.mask], other[one.mask])
                for one, other in zip(each.drawn[FITTED:], each.decoded[FITTED:], strict=True)
            ]
            report(f"reconstructed {kind}: PSNR inside lesions, dB", np.mean(inside), 25)


def alone(pipeline, sets: dict[str, Sets], judge: Pipeline) -> tuple[np.ndarray, float]:
    """The base alone, each kind's caption; its pictures of mpox, and their Fréchet excess."""
    painted, excess = {}, {}
    for kind, each in sets.items():
        prompt = f"clinical photo of {NAMES[kind][0]}"
        steps = PARAMS.generate.steps if kind == "mpox" else STEPS
        painted[kind] = paint(pipeline, prompt, steps)
        found = look(painted[kind])
        shares = dict(
            zip(sets, np.bincount(judge.predict(found), minlength=len(sets)) / DRAWN, strict=True)
        )
        excess[kind] = frechet.distance(found, each.held) - each.floor
        blur = frechet.distance(each.coded[-TESTED:], each.held) - each.floor
        said = ", ".join(f"{other} {share:.2f}" for other, share in shares.items() if share)
        print(f"base alone, {prompt!r}, {steps} steps: judged {said}")
        print(f"reconstructed {kind}: Fréchet excess {blur:.1f}")
        if kind == "mpox":
            report("base alone, judged mpox", shares[kind], most=0.20)
        else:
            report(f"base alone, {kind} judged so", shares[kind], 0.90)
            report(f"base alone, {kind}: Fréchet excess", excess[kind], most=each.floor)
    for kind, words in FREE.items():
        found = judge.predict(look(paint(pipeline, words, PARAMS.generate.steps)))
        right = np.mean(found == phantom.KINDS.index(kind))
        report(f"base alone, {words!r}, judged {kind}", right, 0.80)
    return painted["mpox"], excess["mpox"]


def with_lora(pipeline, mpox: Sets, judge: Pipeline, painted: np.ndarray, excess: float) -> None:
    """The committed run's pictures, and what the LoRA does to another prompt."""
    synthetic = read_all("data/synthetic")[:DRAWN]
    found = look(synthetic)
    images.write(ROOT / "docs/embedded.jpg", sheet(painted, synthetic, found))
    report(
        "with the LoRA, judged mpox",
        np.mean(judge.predict(found) == phantom.KINDS.index("mpox")),
        0.85,
    )
    changed = frechet.distance(found, mpox.held) - mpox.floor
    report("with the LoRA: excess over the base's", changed / excess, most=0.40)
    report("with the LoRA: Fréchet excess", changed, most=2 * mpox.floor)
    photos = PictureSet.read(ROOT / "data/prepared/val")
    concept = concepts.encode(pipeline, photos, [""] * len(photos), SIDE)
    empty = concept.fixed(SEED)
    before = predict(pipeline, empty)
    lora.fuse(pipeline, ROOT / "models/lora")
    change = (predict(pipeline, empty) - before).square().mean() / before.square().mean()
    report("with the LoRA: change of the prediction without a caption", change.item(), most=0.01)
    prompt = f"clinical photo of {NAMES['naevus'][0]}"
    naevi = look(paint(pipeline, prompt, PARAMS.generate.steps))
    right = judge.predict(naevi) == phantom.KINDS.index("naevus")
    report("with the LoRA, naevus judged so", np.mean(right), 0.80)


@torch.no_grad()
def predict(pipeline, batches: list[concepts.Batch]) -> torch.Tensor:
    """The UNet's prediction for each sample: (N, 4, h, w)."""
    return torch.cat(
        [
            pipeline.unet(loss.add_noise(x0, epsilon, alphas), t, states).sample
            for x0, epsilon, t, alphas, states in batches
        ]
    )


def phantoms(kind: str, number: int) -> list[phantom.Phantom]:
    """As photos come out of `prepare`, each its own patient; masks alike."""
    result = []
    for i in range(number):
        picture, mask = phantom.draw(kind, i, 0, SEED, size=2 * SIDE)
        small = mask.reshape(SIDE, 2, SIDE, 2).mean((1, 3)) >= 0.5
        result.append(phantom.Phantom(images.square(picture, SIDE), small))
    return result


def read_all(folder: str) -> np.ndarray:
    files = listing.find(ROOT / folder)[0]
    return np.stack([images.square(images.read(file), SIDE) for file in files])


def sheet(alone: np.ndarray, synthetic: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Named rows: held-out phantoms, base alone, with the LoRA (features `found`), its nearest."""
    held, training = read_all("data/prepared/test"), read_all("data/prepared/train")
    shown = np.linspace(0, len(synthetic) - 1, SHOWN).astype(int)
    some, known = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (found[shown], look(training))
    )
    nearest = np.argmax(some @ known.T, axis=1)
    spread = held[np.linspace(0, len(held) - 1, SHOWN).astype(int)]
    rows = {
        "held-out phantoms": spread,
        "the base alone": alone[:SHOWN],
        "with the LoRA": synthetic[shown],
        "nearest training picture": training[nearest],
        **asked(),
    }
    return images.sheet(
        [
            [label(name), *(cv2.resize(each, None, fx=2, fy=2) for each in row)]
            for name, row in rows.items()
        ]
    )


def asked() -> dict[str, np.ndarray]:
    """With the LoRA, as many pictures of each of three tones: name of the row → pictures."""
    tones = [{"tone": tone, "share": 1.0} for tone in ("very light", "tan", "dark")]
    plan = PARAMS.generate.model_dump() | {"fields": tones, "num_images": len(tones) * SHOWN}
    settings = Generate.model_validate(plan)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder)
        model, adapter = ROOT / PARAMS.model.path, ROOT / "models/lora"
        sampler.generate(Job("generate", model, settings, SIDE, PARAMS.seed, adapter), drawn)
        pictures, rows = PictureSet.read(drawn), {}
        for file, row in zip(pictures.paths, pictures.rows, strict=True):
            rows.setdefault(f"asked: {row['tone']}", []).append(images.read(file))
    return {name: np.stack(pictures) for name, pictures in rows.items()}


def label(name: str) -> np.ndarray:
    """A row's name, a word a line, black on white, of a picture's size."""
    drawn = np.full((2 * SIDE, 2 * SIDE, 3), 255, np.uint8)
    for i, word in enumerate(name.split(), 1):
        place, font = (6, 30 * i), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(drawn, word, place, font, 0.65, (0, 0, 0), 1, cv2.LINE_AA)
    return drawn


def look(pictures: np.ndarray) -> np.ndarray:
    return features.extract([images.recode(each) for each in pictures], EXTRACTOR)


@torch.no_grad()
def reconstruct(pipeline, pictures: np.ndarray) -> np.ndarray:
    decoded = []
    for batch in torch.from_numpy(pictures).permute(0, 3, 1, 2).split(50):
        latents = pipeline.vae.encode(batch / 127.5 - 1).latent_dist.mean
        decoded.append(pipeline.vae.decode(latents).sample)
    bright = (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)
    return (255 * bright).round().byte().permute(0, 2, 3, 1).numpy()


def paint(pipeline, prompt: str, steps: int) -> np.ndarray:
    settings = PARAMS.generate.model_copy(update={"prompt": prompt, "steps": steps})
    requests = sampler.series(prompt, DRAWN, SEED, "painted")
    size, drawing = settings.batch_size, Sampler(pipeline, settings, SIDE)
    batches = [requests[i : i + size] for i in range(0, DRAWN, size)]
    return np.concatenate([drawing.draw(each).read() for each in batches])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def report(name: str, value: float, least: float = -np.inf, most: float = np.inf) -> None:
    asked = f"at least {least:.4g}" if np.isfinite(least) else f"at most {most:.4g}"
    verdict = "yes" if least <= value <= most else "NO"
    if verdict == "NO":
        failed.append(name)
    print(f"{name}: {value:.4g}, asked {asked}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
