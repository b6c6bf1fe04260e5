"""Whether the embedded base paints skin, and its LoRA mpox: python benchmarks/embedded.py.

The judge is not the generator: logistic regression on EfficientNet-Lite0's features, fitted to
phantoms that neither the base nor the LoRA saw and to their reconstructions by the base's
autoencoder (a judge that never saw its blur calls most blurred pictures mpox). The LoRA and its
metrics are those of the last `dvc repro`. Prints a line a check and writes docs/embedded.jpg;
some ten minutes on two cores.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
import stages  # noqa: F401
from mpox import base, features, frechet, images, lora, phantom, sampling, seeds
from mpox.params import Params, read

PARAMS = read(ROOT / "params.yaml", Params, {})
SIDE = PARAMS.resolution
SEED = 31  # of the judge's phantoms: neither the photos' (params/phantom.yaml) nor the base's
FITTED, TESTED = 200, 100  # pictures a kind the judge learns from, and is tested on
DRAWN = 100  # pictures drawn of each kind
SHOWN = 10  # pictures in a row of the sheet
PENALTY = 1e-3  # of the judge's squared weights
MPOX, HEALTHY = 0, len(phantom.KINDS) - 1
EXTRACTOR = features.load("efficientnet_lite0", None, torch.device("cpu"))


def main() -> None:
    pipeline = base.load(ROOT / PARAMS.model.path, SIDE)
    drawn = {kind: phantoms(kind, FITTED + 2 * TESTED) for kind in phantom.KINDS}
    pictures = {kind: np.stack([each.picture for each in drawn[kind]]) for kind in drawn}
    decoded = {kind: reconstruct(pipeline, pictures[kind]) for kind in drawn}
    real = {kind: look(pictures[kind]) for kind in drawn}
    coded = {kind: look(decoded[kind]) for kind in drawn}
    judge = Judge(
        np.concatenate([np.concatenate([real[k][:FITTED], coded[k][:FITTED]]) for k in drawn]),
        np.repeat(np.arange(len(drawn)), 2 * FITTED),
    )
    for name, sets in (("phantoms", real), ("reconstructions", coded)):
        right = [judge(sets[k][FITTED:]) == i for i, k in enumerate(drawn)]
        report(f"judge's accuracy on {name}", np.mean(right), 0.95)

    # 1 and 2: the base alone
    excess, painted = {}, {}
    for i, kind in enumerate(drawn):
        prompt = f"clinical photo of {phantom.NAMES[kind][0]}"
        painted[kind] = paint(pipeline, prompt)
        found = look(painted[kind])
        held, other = real[kind][FITTED:-TESTED], real[kind][-TESTED:]
        floor = frechet.distance(held, other)
        excess[kind] = frechet.distance(found, held) - floor
        codec = frechet.distance(coded[kind][-TESTED:], held) - floor
        shares = np.bincount(judge(found), minlength=len(drawn)) / len(found)
        said = ", ".join(f"{k} {share:.2f}" for k, share in zip(drawn, shares, strict=True))
        print(f"base alone, {prompt!r}: judged {said}; of the codec's excess {codec:.1f}")
        if kind == "mpox":
            report("base alone, judged mpox", shares[i], most=0.20)
            mpox_floor = floor
        else:
            report(f"base alone, {kind} judged so", shares[i], 0.90)
            report(f"base alone, {kind}: Fréchet excess", excess[kind], most=floor)

    # 4: the autoencoder, on what it did not see
    for kind in drawn:
        same = judge(coded[kind][FITTED:]) == judge(real[kind][FITTED:])
        report(f"reconstructed {kind}: same verdict", np.mean(same), 0.95)
        if kind != "healthy":
            inside = [
                psnr(a[each.mask], b[each.mask])
                for a, b, each in zip(pictures[kind], decoded[kind], drawn[kind], strict=True)
            ]
            report(f"reconstructed {kind}: PSNR inside lesions, dB", np.mean(inside[FITTED:]), 25)

    # 2, 3 and 6: with the LoRA
    lora.fuse(pipeline, ROOT / "models/lora")
    synthetic = read_all("data/synthetic")[:DRAWN]
    found = look(synthetic)
    report("with the LoRA, judged mpox", np.mean(judge(found) == MPOX), 0.85)
    held = real["mpox"][FITTED:-TESTED]
    with_lora = frechet.distance(found, held[: len(found)]) - mpox_floor
    report("with the LoRA: excess over the base's", with_lora / excess["mpox"], most=0.40)
    report("with the LoRA: Fréchet excess", with_lora, most=2 * mpox_floor)
    naevi = look(paint(pipeline, f"clinical photo of {phantom.NAMES['naevus'][0]}"))
    naevus = phantom.KINDS.index("naevus")
    report("with the LoRA, naevus judged so", np.mean(judge(naevi) == naevus), 0.80)

    images.write(ROOT / "docs/embedded.jpg", sheet(painted["mpox"], synthetic, found))

    # 5: as `evaluate` found it
    metrics = json.loads((ROOT / "metrics/evaluation.json").read_text())
    for name in ("ms_ssim", "coverage", "vendi_ratio", "copy_rate", "hash_rate"):
        null = metrics[f"{name}_null"]
        print(f"{name}: {metrics[name]:.4g}, real pictures in their place {null:.4g}")


def phantoms(kind: str, number: int) -> list[phantom.Phantom]:
    """As photos come out of `prepare`, each its own patient; masks alike."""
    result = []
    for i in range(number):
        picture, mask = phantom.draw(kind, i, 0, SEED, size=2 * SIDE)
        small = mask.reshape(SIDE, 2, SIDE, 2).mean((1, 3)) >= 0.5
        result.append(phantom.Phantom(images.square(picture, SIDE), small))
    return result


def read_all(folder: str) -> np.ndarray:
    files = images.find(ROOT / folder)[0]
    return np.stack([images.square(images.read(file), SIDE) for file in files])


def sheet(alone: np.ndarray, synthetic: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Rows of held-out phantoms, base alone, with the LoRA (features `found`), nearest learnt."""
    held, learnt = read_all("data/prepared/test"), read_all("data/prepared/train")
    shown = np.linspace(0, len(synthetic) - 1, SHOWN).astype(int)
    some, known = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (found[shown], look(learnt))
    )
    nearest = np.argmax(some @ known.T, axis=1)
    spread = held[np.linspace(0, len(held) - 1, SHOWN).astype(int)]
    rows = [spread, alone[:SHOWN], synthetic[shown], learnt[nearest]]
    return images.sheet([[cv2.resize(each, None, fx=2, fy=2) for each in row] for row in rows])


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


def paint(pipeline, prompt: str) -> np.ndarray:
    settings = PARAMS.generate.model_copy(update={"prompt": prompt})
    numbers = [seeds.derive(SEED, "painted", i) for i in range(DRAWN)]
    size = settings.batch_size
    batches = [numbers[i : i + size] for i in range(0, DRAWN, size)]
    return np.concatenate([sampling.draw(pipeline, each, settings, SIDE) for each in batches])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


class Judge:
    """Multinomial logistic regression on standardised features (n×d), labels (n)."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-6
        x = self._standard(x)
        classes, ones = int(y.max()) + 1, np.eye(y.max() + 1)[y]

        def cost(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(-1, classes)
            scores = x @ weights
            slope = x.T @ (softmax(scores, axis=1) - ones) / len(x) + 2 * PENALTY * weights
            loss = -np.mean(np.sum(ones * log_softmax(scores, axis=1), axis=1))
            return loss + PENALTY * np.sum(weights**2), slope.ravel()

        start = np.zeros(x.shape[1] * classes)
        self.weights = minimize(cost, start, jac=True, method="L-BFGS-B").x.reshape(-1, classes)

    def _standard(self, x: np.ndarray) -> np.ndarray:
        return np.hstack([(x - self.mean) / self.scale, np.ones((len(x), 1))])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.argmax(self._standard(x) @ self.weights, axis=1)


def report(name: str, value: float, least: float = -np.inf, most: float = np.inf) -> None:
    asked = f"at least {least:.4g}" if np.isfinite(least) else f"at most {most:.4g}"
    verdict = "yes" if least <= value <= most else "NO"
    print(f"{name}: {value:.4g}, asked {asked}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
