"""The page as a file: complete, reproducible, and harmless whatever the input holds."""

import base64
import io
import json
import os
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import skimage
from PIL import Image
from runs import ROOT, evaluation, finished, picture, preparation

from mpox import params
from mpox.core import folders, table
from mpox.core.errors import InputError
from mpox.params import Params
from mpox.report import data, html, look, page, pictures, provenance
from mpox.statistics.estimate import Estimate, Metrics

HOSTILE = [
    "<script>window.hostile = 1</script>",
    "\"><img src=x onerror='window.hostile = 1'>",
    "{{ 7 * 7 }} {% for x in y %}",
    "\u202eesrever\u202c \x07 bell",
    "x" * 10_000,
]


class Page(HTMLParser):
    """Elements with their attributes, and the text outside style and script."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        self.text += (
            " " if tag in ("td", "th", "div", "p", "br", "li", "button", "figcaption") else ""
        )

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("style", "script"):
            self.text += data

    @property
    def pictures(self) -> list[np.ndarray]:
        return [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(attrs["src"].split(",", 1)[1]))))
            for tag, attrs in self.elements
            if tag == "img" and attrs.get("src")
        ]


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    one, two = (page.build(finished(tmp_path / name / "run")) for name in ("a", "b"))
    assert one.replace(str(tmp_path / "a"), "") == two.replace(str(tmp_path / "b"), "")
    assert page.build(finished(tmp_path / "c" / "run", n=7)) != one


def test_nothing_is_loaded_and_no_other_script_may_run(tmp_path):
    found = Page(page.build(finished(tmp_path)))
    policy = next(a["content"] for t, a in found.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(re.findall("'sha256-", policy)) == 1 and "unsafe-eval" not in policy
    for tag, attrs in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, attrs)
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    links = [a["href"][1:] for t, a in found.elements if t == "a"]
    assert set(links) <= set(ids)
    own = [i for i in ids if re.match(r"(measure|words|look|data|training|paper|prov)", i)]
    assert len(own) == len(set(own))


def by_group(name: str) -> Metrics:
    """An evaluation by site, with a site of this name."""
    own = {"n_real": Estimate(30), "n_synthetic": Estimate(40), "share_real": Estimate(0.3),
           "share_synthetic": Estimate(0.4), "share_off": Estimate(0.1, -0.1, 0.2)}  # fmt: skip
    judged = dict.fromkeys(("precision", "coverage"), Estimate(*[0.5] * 5))
    p = {"p": Estimate(0.3)}
    groups = {"by site": p, f"site: {name}": own, "site: arm": own | judged}
    return evaluation(6, groups=groups | {"by by whom": p, "by whom: a nurse": own})


def test_a_group_in_the_table_is_not_judged_if_too_small(tmp_path):
    found = Page(page.build(finished(tmp_path, metrics=by_group("leg")))).text
    found = " ".join(found.split())
    assert "By site" in found and "leg 30 (30 %) 40 (40 %) +10 (−10 … +20) too few" in found
    assert "arm 30 (30 %) 40 (40 %) +10 (−10 … +20) 0.50 (0.50 … 0.50); real 0.50" in found
    assert "By by whom" in found and "a nurse 30 (30 %)" in found


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(tmp_path, text):
    changes = {f"{key}": json.dumps(text) for key in
               ("generate.prompt", "train.validation_prompt", "train.instance_prompt",
                "draw_class.prompt", "generate.negative_prompt")}  # fmt: skip
    changes = {} if "{" in text else changes  # braces are fields, and refused
    made = page.build(finished(tmp_path, changes=changes, metrics=by_group(text)))
    found = Page(made)
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert not [attrs for _, attrs in found.elements if "onerror" in attrs]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    assert found.text.count(shown) >= (1 if "{" in text else 5)
    assert "\u202e" not in made and "\x07" not in made


def test_no_file_name_and_no_patient_id_is_on_the_page(tmp_path):
    made = page.build(finished(tmp_path))
    assert "Jane" not in made and "MRN" not in made


def test_without_real_photos_only_synthetic_pictures_are_left(tmp_path):
    """Here synthetic pictures are red and real ones are green."""

    def draw(k: int, i: int, side: int) -> np.ndarray:
        own = picture(k, i, side=side) // 4
        own[..., 0 if k >= 3 else 1] += 190
        return own

    run = finished(tmp_path, draw=draw)
    with_real, without = (
        Page(page.build(finished(tmp_path / f"{real}", draw=draw, changes={"report.real": real})))
        for real in ("true", "false")
    )

    def red(pixels: np.ndarray) -> bool:
        return bool(np.mean(pixels[..., 0]) > np.mean(pixels[..., 1]))

    assert [red(each) for each in with_real.pictures].count(False) == 6 + 2
    assert without.pictures and all(red(each) for each in without.pictures)
    assert "This page shows patients." in with_real.text
    assert "This page shows patients." not in without.text
    assert "No real photo is on this page" in without.text
    assert len(without.pictures) == 6 + 2 + 2 * 6 + 2 * 3
    assert run.params.report.real


def test_phantoms_are_not_called_patients(tmp_path):
    text = Page(page.build(finished(tmp_path, changes={"data.source": "data/phantom/photos"}))).text
    assert "procedural phantoms. They show no real person." in text and "shows patients" not in text


def test_every_picture_has_a_description(tmp_path):
    found = Page(page.build(finished(tmp_path)))
    alts = [attrs["alt"] for tag, attrs in found.elements if tag == "img" and "src" in attrs]
    assert len(alts) == 6 + 6 + 4 + 2 * 6 + 6 and all(alts)
    assert [alt for alt in alts if alt.startswith("real test photo")] == [
        f"real test photo {i} of 6" for i in range(1, 7)
    ]
    assert "seed: 1003" in found.text and "prompt: clinical photo" in found.text
    assert "step 0" in found.text and "the base" in found.text
    assert "This run uses the LoRA of step 8" in " ".join(found.text.split())


def test_pictures_of_one_call_share_a_side_within_the_budget():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (512, 512, 3), dtype=np.uint8) for _ in range(20)]
    found = pictures.encode(noise, 700_000)
    assert sum(len(source) for source, _ in found) <= 700_000
    assert {side for _, side in found} == {160}
    assert {side for _, side in pictures.encode(noise[:2], 10**9)} == {384}
    assert {side for _, side in pictures.encode([noise[0][:48, :48]], 10**9)} == {48}
    assert {side for _, side in pictures.encode(noise, 10)} == {64}
    assert pictures.encode([], 10) == []


def test_a_page_of_a_thousand_pictures_of_512_pixels_has_at_most_15_megabytes(
    tmp_path, monkeypatch
):
    """Pictures as smooth as skin, with a camera's noise."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 6, (512, 512, 3))

    def draw(*key: int, side: int) -> np.ndarray:
        noisy = picture(*key, side=side) + np.roll(grain, key[-1] * 37)[:side, :side]
        return noisy.clip(0, 255).astype(np.uint8)

    run = finished(tmp_path, n=3, side=512, draw=draw)
    for folder in (run.prepared / "test", run.synthetic, run.base):
        files = sorted(folder.glob("*.png"))
        for i in range(3, 500):
            os.link(files[i % 3], folder / f"{files[i % 3].stem}-{i}.png")
    for folder, columns in (
        (run.prepared / "test", ["patient"]),
        (run.synthetic, ["text", "negative_prompt", "seed"]),
    ):
        names = [file.name for file in folder.glob("*.png")]
        rows = {name: ["a lesion", "", k][-len(columns) :] for k, name in enumerate(names)}
        table.write(folder, columns, rows)
    # Links show the same picture: it is decoded once, and encoded once for each side.
    monkeypatch.setattr(look, "_read", once(look._read, lambda _, path: path.stat().st_ino))
    monkeypatch.setattr(
        pictures, "_jpeg", once(pictures._jpeg, lambda p, side: (p.tobytes(), side))
    )
    monkeypatch.setattr(data, "_tone", lambda path: 0.0)
    made = page.build(run).encode()
    assert 5_000_000 < len(made) <= 15_000_000
    assert len(Page(made.decode()).pictures) == 1000 + 4 + 2 * 8 + 6


def once(work, key):
    """`work`, whose result is kept for arguments with the same key."""
    results: dict = {}

    def cached(*arguments):
        name = key(*arguments)
        if name not in results:
            results[name] = work(*arguments)
        return results[name]

    return cached


# ---------------------------------------------------------------- data


def test_the_flow_adds_up():
    found = data.flow(preparation(6))
    assert found["files"] == 18 + 2 + 5 + 7
    assert found["files"] - sum(found["left_out"].values()) == found["used"]
    assert sum(count for _, count, _ in found["sets"]) == found["used"]


def test_tones_are_those_of_the_median_colour(tmp_path):
    colour = (198, 150, 120)
    run = finished(tmp_path, draw=lambda *key, side: np.full((side, side, 3), colour, np.uint8))
    lightness, _, yellow = skimage.color.rgb2lab(np.array(colour) / 255)
    expected = np.degrees(np.arctan((lightness - 50) / yellow))
    for found in data.tones(run).values():
        assert found == pytest.approx([expected] * 6, abs=0.5)


def test_classes_of_tone_are_shares_of_all():
    angles = np.array([-80.0, -31, -30, 9, 10, 27, 28, 40, 41, 54, 55, 89])
    assert data.shares(angles) == pytest.approx([2 / 12] * 6)


def test_a_set_of_few_patients_has_no_histogram(tmp_path):
    run = finished(tmp_path)
    run.preparation["groups_val"] = 4
    assert set(data.tones(run)) == {"train", "test", "synthetic"}
    assert "too few patients: validation" in Page(page.build(run)).text


# ---------------------------------------------------------------- provenance


def test_parameters_that_differ_from_the_profile_are_marked(tmp_path):
    own = params.read(ROOT / "params.yaml", Params, {"train.rank": "16"})
    name, rows = provenance.parameters(own, ROOT / "params")
    assert name == "embedded.yaml"
    assert [row for row in rows if row.profile is not None] == [("train.rank", "16", "8")]
    assert len(rows) > 60
    for profile in provenance.PROFILES:
        mine = params.read(ROOT / "params" / profile, Params)
        name, rows = provenance.parameters(mine, ROOT / "params")
        assert name == profile and not [row for row in rows if row.profile is not None]


def test_the_hash_of_a_folder_is_what_the_page_says_it_is(tmp_path):
    (tmp_path / "a folder/sub").mkdir(parents=True)
    (tmp_path / "a folder/b.txt").write_text("b")
    (tmp_path / "a folder/sub/a.txt").write_text("a")
    (tmp_path / "a folder/ü x.txt").write_text("ü")
    command = (
        "(cd 'a folder' && find * -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum) | sha256sum"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert folders.digest(tmp_path / "a folder") == done.stdout.split()[0]
    template = (html.TEMPLATES / "provenance.html").read_text()
    assert command.replace("'a folder'", "FOLDER").replace("&&", "&amp;&amp;") in template


def test_versions_are_the_locks(tmp_path):
    lock = "numpy==2.5.5 \\\n    --hash=sha256:0\ntorch==2.15.0 ; sys_platform == 'linux' \\\n"
    assert provenance.locked(lock) == {"numpy": "2.5.5", "torch": "2.15.0"}


# ---------------------------------------------------------------- for a paper


def text_of(tmp_path, metrics: Metrics | None = None, **changes: str) -> str:
    run = finished(tmp_path, changes=changes, metrics=metrics)
    return " ".join(Page(page.build(run)).text.split())


def test_the_methods_have_the_runs_numbers(tmp_path):
    text = text_of(
        tmp_path / "a",
        **{"train.rank": "5", "train.alpha": "2.5", "train.rslora": "true", "seed": "77"},
    )
    assert "We used 18 photos of 18 patients, after excluding 5 unusable files" in text
    assert "LoRA, rank 5, α 2.5, scaled by α/√rank" in text
    assert "min-SNR (Hang et al. 2023), γ = 5. The base's prediction without a caption" in text
    assert "was preserved (weight 0.3, 4 samples per step)" in text
    assert "seed 77." in text and "negative prompt “" not in text
    plain = text_of(
        tmp_path / "b",
        evaluation(identity={"patients": "unknown"}),
        **{
            "train.min_snr_gamma": "null",
            "train.prior_preservation.weight": "0",
            "train.select": "last",
            "train.dora": "true",
            "generate.negative_prompt": "blurry",
        },
    )
    assert "min-SNR" not in plain and "Prior preservation (" not in plain
    assert "prediction without a caption" not in plain
    assert "DoRA, rank 8" in plain and "which was the last." in plain
    assert "negative prompt “blurry”" in plain
    assert "18 photos of unknown patients" in plain
    assert "near duplicates only; the patients are unknown" in plain
    assert "The patients are unknown" in plain
    drawn = text_of(tmp_path / "c", **{"train.prior_preservation.target": "class_pictures"})
    assert "Prior preservation (weight 0.3) used 32 pictures that the base drew of" in drawn


def test_guidelines_are_answered_from_the_numbers_or_left_to_the_authors(tmp_path):
    metrics = evaluation(recall=0.61, copy_rate=(0.02, 0.0, 0.07))
    made = page.build(finished(tmp_path, metrics=metrics))
    assert "recall 0.61 (real photos 0.80)" in made
    assert "2.0 % (up to 7.0 %) are as close to a training photo" in made
    answered, total = map(int, re.search(r"answers (\d+) of (\d+) questions", made).groups())
    assert total - answered == made.count("<td><b>for you to answer</b></td>") > 5


def test_the_citation_matches_the_version():
    import tomllib

    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["version"] == project["version"] and cited["license"] == project["license"]
    assert cited["cff-version"] == "1.2.0" and cited["authors"] and cited["message"]


def test_missing_or_broken_files_are_named(tmp_path):
    (finished(tmp_path / "a").metrics / "evaluation.json").write_text("<<<<<<<")
    (finished(tmp_path / "b").synthetic / table.NAME).unlink()
    (finished(tmp_path / "c").metrics / "reading.json").write_text('{"ran": true, "accuracy": 0.5}')
    (finished(tmp_path / "d").metrics / "train/metrics.json").write_text("<<<<<<<")
    for name, said in (
        ("a", r"evaluation\.json: invalid JSON"),
        ("b", r"synthetic: has no metadata\.csv"),
        ("c", r"reading\.json: is not in the layout that metrics have since commit 58f367c"),
        ("d", r"train/metrics\.json: invalid JSON"),
    ):
        folder = tmp_path / name
        broken = replace(
            finished(tmp_path / f"{name}2"),
            synthetic=folder / "synthetic",
            metrics=folder / "metrics",
        )
        with pytest.raises(InputError, match=said):
            page.build(broken)
