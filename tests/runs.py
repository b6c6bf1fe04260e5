"""A small finished run, made by hand, in which every number is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from mpox import params
from mpox.core import images, table
from mpox.params import Params
from mpox.report.run import Run
from mpox.statistics.estimate import ALL, Estimate, Metrics

ROOT = Path(__file__).parents[1]
SIDE = 16  # pixels


def evaluation(
    n: int = 100,
    identity: dict | None = None,
    groups: dict | None = None,
    **changes: float | tuple[float, ...],
) -> Metrics:
    """metrics/evaluation.json of a perfect set: each value equals its null, ± 0.1.

    `changes`: a measure's value, or its value, low and high.
    """
    measures = {
        "fid": Estimate(60.0), "fid_half": Estimate(80.0), "fid_floor": Estimate(80.0),
        "kid_p": Estimate(0.4), "fid_excess": Estimate(0.0, -20.0, 20.0, 0.0, 9.0),
        "fid_gap": Estimate(0.0, -20.0, 20.0, 0.0, 9.0), "copy_threshold": Estimate(0.96),
        "hash_threshold": Estimate(11), "copy_cosine": Estimate(0.94, null=0.95),
        "hash_bits": Estimate(12, null=12), "ssim": Estimate(0.4, noise=0.02),
        "ssim_constant": Estimate(0.6), "ssim_real": Estimate(0.4),
    }  # fmt: skip
    shares = ("precision", "recall", "density", "coverage")
    nulls = {"kid": 0.03, "vendi_ratio": 1.0, "ms_ssim": 0.17} | dict.fromkeys(shares, 0.8)
    for name, null in nulls.items():
        measures[name] = Estimate(null, round(null - 0.1, 6), round(null + 0.1, 6), null, 0.05)
    for name in ("repeat_rate", "copy_rate", "hash_rate"):
        measures[name] = Estimate(0.0, 0.0, 0.036, 0.01, 0.018, 0.02)
    for name, change in changes.items():
        numbers = change if isinstance(change, tuple) else (change,)
        fields = dict(zip(("value", "low", "high"), numbers, strict=False))
        measures[name] = replace(measures[name], **fields)
    known = {
        "features": "tiny", "features_sha256": "01234567",
        "preprocessing": "square 16, JPEG 95, network 224", "split": "89abcdef",
        "patients": "known", "n_test": n, "n_training": n, "n_synthetic": n, "n_fid": n,
        "n_half": n // 2, "neighbours": 5, "ms_ssim_scales": 1,
    }  # fmt: skip
    headlines = {name: measures[name].value for name in ("fid", "kid")}
    return Metrics({ALL: measures, **(groups or {})}, known | (identity or {}), headlines=headlines)


def without_training(metrics: Metrics) -> Metrics:
    """The part of an evaluation that needs no training photos."""
    copies = ("copy", "hash", "fid_gap")
    others = {k: v for k, v in metrics.estimates[ALL].items() if not k.startswith(copies)}
    return replace(metrics, estimates={ALL: others})


def preparation(n: int = 6) -> dict:
    """metrics/prepare.json: n pictures in every set, each of a patient of its own."""
    sets = ("train", "val", "test")
    return {
        "pictures": 3 * n, **dict.fromkeys(sets, n), "groups": 3 * n,
        **{f"groups_{name}": n for name in sets}, "tone_train": 14.0, "tone_test": 15.2,
        "exact_duplicates": 2, "near_duplicates": 3, "invalid": 5, "other_files": 7,
    }  # fmt: skip


def utility(label: str = "acne", **gains: tuple[float, float, float]) -> Metrics:
    """metrics/utility.json of a trial whose judged arm, `both_100`, gains nothing.

    `gains`: value and interval of `gain`, `over_placebo` or `over_augmented`.
    """
    none, area = Estimate(0.001, -0.02, 0.022), Estimate(0.8, 0.7, 0.9)
    rates = dict.fromkeys(("auroc", "auprc", "sensitivity", "specificity", "brier"), area)
    arm = {"encoded": Estimate(0), "n_mpox": Estimate(128), "n_controls": Estimate(128), **rates}
    gained = {"gain": none, "gain_over_other": Estimate(0.002, -0.02, 0.024)}
    gained["detectable"] = Estimate(0.031)
    estimates = {ALL: {"worth": Estimate(2.0, -5.0, 32.0), "worth_most": Estimate(32)}, "real": arm}
    estimates |= {name: arm | gained for name in ("augmented", "both_100", "synthetic", "placebo")}
    estimates["both_100"] |= {"over_placebo": none, "over_augmented": none}
    estimates["both_100"] |= {name: Estimate(*numbers) for name, numbers in gains.items()}
    for name in ("real", "augmented", "both_100", "synthetic", "placebo"):
        estimates[f"{name}, label: {label}"] = {"auroc": area}
    for kind in ("real", "augmented"):
        estimates |= {f"{kind}, patients: {number}": {"auroc": area} for number in (3, 32)}
    for name in ("probe", "probe_encoded", "colour", "masked"):
        alarm = Estimate(int(name == "probe"))
        estimates[f"guard: {name}"] = {"auroc": Estimate(0.6, 0.5, 0.7), "alarm": alarm}
    return Metrics(
        estimates,
        {"features": "tiny", "n_test": 104, "n_test_controls": 100, "patients_test": 52,
         "main": "both_100"},
        headlines={"utility_auroc": 0.8},
    )  # fmt: skip


def networks(**gains: tuple[float, float, float]) -> Metrics:
    """metrics/utility.json of a trial of networks; `gains` are those of their arm `share_40`."""
    linear, changed = utility(), utility(**gains).estimates
    named = {"both_100": "share_40", "both_100, label: acne": "share_40, label: acne"}
    estimates = {
        named.get(name, name): measures
        for name, measures in changed.items()
        if name != ALL and not name.startswith("augmented") and ", patients: " not in name
    }
    del estimates["share_40"]["over_augmented"]
    estimates |= {"share_20": estimates["placebo"], "synthetic_first": estimates["synthetic"]}
    estimates |= {f"linear: {name}": measures for name, measures in linear.estimates.items()}
    identity = dict(linear.identity)
    identity |= {"main": "share_40", "classifier": "cnn", "network": "small"}
    identity["linear_main"] = linear.identity["main"]
    return replace(linear, estimates=estimates, identity=identity)


def privacy(lora_sha256: str = "0" * 64, low: float = 0.36, high: float = 0.64) -> Metrics:
    """metrics/privacy.json of an attack that identifies nobody, with this interval of its AUC."""
    measures = {
        "auc": Estimate(0.5, low, high, 0.5),
        "detectable": Estimate(0.7),
        "tpr": Estimate(0.03, 0.0, 0.16, 0.04),
        "false_alarms": Estimate(0.05),
    }
    identity = {"lora_sha256": lora_sha256, "patients": "known", "n_training": 128, "n_test": 104,
                "patients_training": 32, "patients_test": 26, "noises": 4}  # fmt: skip
    return Metrics({ALL: measures}, identity, headlines={"attack_auc": 0.5})


def picture(*key: int, side: int = SIDE) -> np.ndarray:
    """A smooth random picture, uint8 side×side×3."""
    coarse = np.random.default_rng(key).integers(40, 256, (4, 4, 3), dtype=np.uint8)
    return images.square(coarse, side)


def finished(
    folder: Path,
    n: int = 6,
    side: int = SIDE,
    changes: dict[str, str] | None = None,
    metrics: Metrics | None = None,
    trial: Metrics | None = None,
    reading: Metrics | None = None,
    attack: Metrics | None = None,
    draw=picture,
) -> Run:
    """n pictures in every set, two seeds' validation pictures at three steps."""
    values = params.read(
        ROOT / "params.yaml",
        Params,
        {"resolution": str(side), "model.path": str(folder / "base"), "data.source": "data/photos"}
        | (changes or {}),
    )
    run = Run(values, folder / "prepared", folder / "synthetic", folder / "base-alone",
              folder / "lora", folder / "sheets", folder / "metrics", ROOT / "params",
              ROOT / "requirements.lock")  # fmt: skip
    manifest = ["source,sha256,group,split,file,reason"]
    for k, part in enumerate(("train", "val", "test")):
        (run.prepared / part).mkdir(parents=True)
        for i in range(n):
            name = f"{k}{i:015x}.png"
            images.write(run.prepared / part / name, draw(k, i, side=side))
            manifest.append(f"Jane Doe {k} {i}.jpg,{k}{i:063x},MRN-{i},{part},{part}/{name},")
        rows = {f"{k}{i:015x}.png": [i, i] for i in range(n)}
        table.write(run.prepared / part, ["patient", "group"], rows)
    (run.prepared / "manifest.csv").write_text("\n".join([*manifest, ""]))
    run.synthetic.mkdir()
    run.base.mkdir()
    rows = {}
    for i in range(n):
        images.write(run.synthetic / f"{i:05d}.png", draw(3, i, side=side), {"seed": str(i)})
        prompt, negative = values.generate.prompt, values.generate.negative_prompt
        rows[f"{i:05d}.png"] = [prompt, negative, 1000 + i, ["tan", "dark"][i % 2]]
    table.write(run.synthetic, ["text", "negative_prompt", "seed", "tone"], rows)
    for i in range(n):
        images.write(run.base / f"{i:05d}.png", draw(5, i, side=side), {"seed": str(i)})
    for step in (0, 4, 8):
        validation = run.lora / f"validation/step-{step:06d}"
        validation.mkdir(parents=True)
        for i in range(2):
            images.write(validation / f"{i:05d}.png", draw(4 + step, i, side=side))
    (run.lora / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    (folder / "base/unet").mkdir(parents=True)
    (folder / "base/unet/config.json").write_text("{}")
    run.sheets.mkdir()
    (run.sheets / "suspicious_pairs.csv").write_text(
        "by,synthetic,training,orientation,cosine,bits,ssim\n"
        f"features,00001.png,0{2:015x}.png,1,0.94,20,0.4\n"
        f"hashes,00002.png,0{1:015x}.png,0,0.9,12,0.5\n"
    )
    (run.metrics / "train/plots/metrics").mkdir(parents=True)
    curves = {"loss": [0.3, 0.25], "val_loss": [0.3, 0.2], "learning_rate": [0.001, 0.0]}
    for name, values in curves.items():
        lines = [f"step\t{name}", *(f"{8 * i}\t{value}" for i, value in enumerate(values))]
        (run.metrics / f"train/plots/metrics/{name}.tsv").write_text("\n".join([*lines, ""]))
    contents = {
        "prepare": Metrics(counts=preparation(n)),
        "evaluation": metrics or evaluation(n),
        "utility": trial or utility(),
        "reading": reading or Metrics(),
        "privacy": attack or privacy(),
    }
    for name, content in contents.items():
        content.write(run.metrics / f"{name}.json")
    trained = {"step": 8, "selected": {"step": 8, "val_loss": 0.2}}
    (run.metrics / "train/metrics.json").write_text(json.dumps(trained))
    return run
