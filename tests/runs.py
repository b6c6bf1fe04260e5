"""A finished run made by hand: small, and every number in it known."""

import json
from pathlib import Path

import numpy as np

from mpox import params
from mpox.core import images, table
from mpox.params import Params
from mpox.report.run import Run

ROOT = Path(__file__).parents[1]
SIDE = 16  # pixels


def evaluation(n: int = 100, **changes) -> dict:
    """metrics/evaluation.json of a perfect set: each value is its null, within ±0.1 of chance."""
    shares = ("precision", "recall", "density", "coverage")
    found: dict = {
        "identity": {
            "features": "tiny", "features_sha256": "01234567",
            "preprocessing": "square 16, JPEG 95, network 224", "split": "89abcdef",
            "patients": "known", "n_test": n, "n_training": n, "n_synthetic": n, "n_fid": n,
            "n_half": n // 2, "neighbours": 5, "ms_ssim_scales": 1,
        },
        "fid": 60.0, "fid_half": 80.0, "fid_floor": 80.0, "kid_p": 0.4,
        "fid_excess": 0.0, "fid_excess_lo": -20.0, "fid_excess_hi": 20.0, "fid_noise": 9.0,
        "fid_gap": 0.0, "fid_gap_lo": -20.0, "fid_gap_hi": 20.0, "fid_gap_noise": 9.0,
        "copy_threshold": 0.96, "hash_threshold": 11, "copy_cosine": 0.94, "hash_bits": 12,
        "copy_cosine_null": 0.95, "hash_bits_null": 12, "ssim": 0.4, "ssim_noise": 0.02,
        "ssim_constant": 0.6, "ssim_real": 0.4,
    }  # fmt: skip
    nulls = {"kid": 0.03, "vendi_ratio": 1.0, "ms_ssim": 0.17} | dict.fromkeys(shares, 0.8)
    for name, null in nulls.items():
        found |= {name: null, f"{name}_null": null, f"{name}_noise": 0.05,
                  f"{name}_lo": null - 0.1, f"{name}_hi": null + 0.1}  # fmt: skip
    for name in ("repeat_rate", "copy_rate", "hash_rate"):
        found |= {name: 0.0, f"{name}_lo": 0.0, f"{name}_hi": 0.036, f"{name}_noise": 0.018,
                  f"{name}_null": 0.01, f"{name}_null_noise": 0.02}  # fmt: skip
    identity = found["identity"] | changes.pop("identity", {})
    return found | changes | {"identity": identity}


def preparation(n: int = 6) -> dict:
    """metrics/prepare.json: n pictures in every set, each of a patient of its own."""
    sets = ("train", "val", "test")
    return {
        "pictures": 3 * n, **dict.fromkeys(sets, n), "groups": 3 * n,
        **{f"groups_{name}": n for name in sets}, "tone_train": 14.0, "tone_test": 15.2,
        "exact_duplicates": 2, "near_duplicates": 3, "invalid": 5, "other_files": 7,
    }  # fmt: skip


def utility(label: str = "acne", **gains: tuple[float, float, float]) -> dict:
    """metrics/utility.json of a trial whose judged arm, `both_100`, gains nothing.

    `gains`: value and interval of `gain`, `over_placebo` or `over_augmented`.
    """

    def of(name: str, value: float, low: float, high: float) -> dict:
        return {name: value, f"{name}_lo": low, f"{name}_hi": high}

    rates = ("auroc", "auprc", "sensitivity", "specificity", "brier")
    areas = of("auroc", 0.8, 0.7, 0.9)
    arm = {"version": "plain", "n_mpox": 128, "n_controls": 128, "by": {"label": {label: areas}}}
    for name in rates:
        arm |= of(name, 0.8, 0.7, 0.9)
    arms = {name: dict(arm) for name in ("real", "augmented", "both_100", "synthetic", "placebo")}
    for name in list(arms)[1:]:
        arms[name] |= {**of("gain", 0.001, -0.02, 0.022), "detectable": 0.031}
        arms[name] |= of("gain_over_other", 0.002, -0.02, 0.024)
    none = (0.001, -0.02, 0.022)
    arms["both_100"] |= {**of("over_placebo", *none), **of("over_augmented", *none)}
    for name, values in gains.items():
        arms["both_100"] |= of(name, *values)
    guards = ("probe", "probe_encoded", "colour", "masked")
    return {
        "ran": True,
        "identity": {"features": "tiny", "n_test": 104, "n_test_controls": 100,
                     "patients_test": 52},
        "main": "both_100",
        "arms": arms,
        "worth": {**of("patients", 2.0, -5.0, 32.0), "most": 32},
        "curve": {kind: {"3": areas, "32": areas} for kind in ("real", "augmented")},
        "guards": {k: v for name in guards for k, v in of(name, 0.6, 0.5, 0.7).items()}
        | {f"{name}_alarm": name == "probe" for name in guards},
    }  # fmt: skip


def privacy(**changes) -> dict:
    """metrics/privacy.json of an attack that finds nobody."""
    return {
        "identity": {"lora_sha256": "0" * 64, "patients": "known", "n_training": 128,
                     "n_test": 104, "patients_training": 32, "patients_test": 26, "noises": 4},
        "auc": 0.5, "auc_lo": 0.36, "auc_hi": 0.64, "auc_null": 0.5, "detectable": 0.7,
        "tpr": 0.03, "tpr_lo": 0.0, "tpr_hi": 0.16, "tpr_null": 0.04, "false_alarms": 0.05,
    } | changes  # fmt: skip


def picture(*key: int, side: int = SIDE) -> np.ndarray:
    """A smooth random picture, uint8 side×side×3."""
    coarse = np.random.default_rng(key).integers(40, 256, (4, 4, 3), dtype=np.uint8)
    return images.square(coarse, side)


def finished(
    folder: Path,
    n: int = 6,
    side: int = SIDE,
    changes: dict[str, str] | None = None,
    metrics: dict | None = None,
    trial: dict | None = None,
    reading: dict | None = None,
    attack: dict | None = None,
    draw=picture,
) -> Run:
    """n pictures in every set, two seeds' validation pictures at three steps."""
    own = params.read(
        ROOT / "params.yaml",
        Params,
        {"resolution": str(side), "model.path": str(folder / "base"), "data.source": "data/photos"}
        | (changes or {}),
    )
    run = Run(own, folder / "prepared", folder / "synthetic", folder / "base-alone",
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
        prompt, negative = own.generate.prompt, own.generate.negative_prompt
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
        "prepare": preparation(n),
        "evaluation": metrics or evaluation(n),
        "utility": trial or utility(),
        "reading": reading or {"ran": False},
        "privacy": attack or privacy(),
        "train/metrics": {"step": 8, "selected": {"step": 8, "val_loss": 0.2}},
    }
    for name, content in contents.items():
        (run.metrics / f"{name}.json").write_text(json.dumps(content))
    return run
