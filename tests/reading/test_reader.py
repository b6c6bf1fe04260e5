"""A whole reading in a real browser, by keyboard alone, from the disk, with no network."""

import json
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from test_kit import SIDE, build, rows, sets, settings  # noqa: F401

from mpox.reading import answers, kit, study

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if not CHROMIUM and not os.environ.get("MPOX_BROWSER_REQUIRED"):
    pytest.skip("no chromium on this machine", allow_module_level=True)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="module")
def made(sets):  # noqa: F811
    return build(sets, pictures=3, repeats=2, training=1)


@pytest.fixture(scope="module")
def file(made, tmp_path_factory) -> Path:
    written = tmp_path_factory.mktemp("kit") / "kit.html"
    written.write_text(kit.page(made), encoding="utf-8")
    return written


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A reader's browser, which keeps what a page stores; nothing is asked of the network."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=CHROMIUM, args=QUIET, offline=True,
            viewport={"width": 1280, "height": 900},
        )  # fmt: skip
        yield context
        context.close()


def opened(desk, file: Path) -> tuple[Page, list[str]]:
    page, said = desk.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:", file.as_uri()))
            else said.append(r.url))  # fmt: skip
    page.goto(file.as_uri())
    return page, said


def begin(page: Page, code: str) -> None:
    page.keyboard.type(code)
    for key in ("Tab", "Space", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".picture img")


def learn(page: Page) -> list[str]:
    """The lessons, with what is said of each answer."""
    told = []
    for k in range(2):
        assert page.inner_text(".left") == f"Training: {k + 1} of 2"
        for key in ("1", "3"):  # real, fairly sure
            page.keyboard.press(key)
        told.append(page.inner_text("h2"))
        page.keyboard.press("1")
    return told


def judge(page: Page, call: str) -> str:
    """One picture; the identifier seen."""
    seen = page.get_attribute("img", "data-id")
    for key in ("1", "4", "3", "1", "3", "Enter", "3", "2", "4", call, "5"):
        page.keyboard.press(key)
    page.keyboard.type('too smooth, "odd"')
    page.keyboard.press("Enter")
    return seen


def test_a_reading_by_keyboard_closed_and_resumed_is_what_the_scores_read(
    desk, file, made, sets, tmp_path  # noqa: F811
):  # fmt: skip
    page, said = opened(desk, file)
    begin(page, "R-1")
    assert sorted(told.split(":")[0] for told in learn(page)) == ["Right", "Wrong"]
    of = {row["id"]: row for row in rows(made)}
    seen = []
    for _ in range(3):
        own = page.get_attribute("img", "data-id")
        seen.append(judge(page, "2" if of[own]["class"] == "synthetic" else "1"))
    assert page.inner_text(".left") == "Picture 4 of 8"
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert '\\"class\\":' in kept and "training" not in kept
    for key in ("1", "2"):  # a picture begun is begun again
        page.keyboard.press(key)
    page.close()

    page, more = opened(desk, file)
    begin(page, "R-1")
    assert page.inner_text(".left") == "Picture 4 of 8"
    assert page.inner_text("h2") == "Which diagnosis?"
    for _ in range(5):
        own = page.get_attribute("img", "data-id")
        seen.append(judge(page, "2" if of[own]["class"] == "synthetic" else "1"))
    assert sorted(seen) == sorted(of)
    key = {own: dict(row) for own, row in of.items()}
    for as_ in ("csv", "json"):
        with page.expect_download() as download:
            page.click(f"button[data-as={as_}]")
        target = tmp_path / f"answers.{as_}"
        download.value.save_as(target)
        assert download.value.suggested_filename == f"reading-{made.content['kit']}-R-1.{as_}"
        (read,) = answers.read([target], key, incomplete=False)
        assert read.reader == "R-1" and {*read.rows} == {*of}
        row = read.rows[seen[0]]
        assert row["diagnosis"] == "mpox" and row["features"] == "umbilication; crust"
        assert row["reason"] == 'too smooth, "odd"' and float(row["seconds"]) >= 0
        assert study.measure(key, [read], settings(), sets, SIDE)["accuracy"].value == 1
    assert said == more == []
    page.close()


def test_digits_are_known_by_their_keys_place(desk, file):
    """A French keyboard's digits need Shift; of a number pad without its lock a 1 is End."""

    def press(key: str, code: str) -> None:
        page.evaluate(
            "key => document.dispatchEvent(new KeyboardEvent('keydown', key))",
            {"key": key, "code": code},
        )

    page, said = opened(desk, file)
    begin(page, "azerty")
    learn(page)
    for key, code in (("&", "Digit1"), ("'", "Digit4"), ("End", "Numpad1")):
        press(key, code)
    assert page.inner_text("h2") == "Which of these do you see?"
    for key, code in (
        ("é", "Digit2"),
        ('"', "Digit3"),
        ("ç", "Digit9"),
    ):  # of the last there is none
        press(key, code)
    chosen = page.locator("button[aria-pressed=true]").all_inner_texts()
    assert [text.split()[-1] for text in chosen] == ["halo", "crust"]
    assert said == []
    page.close()


def test_two_readers_see_other_orders_and_one_the_same_again(desk, file):
    orders = []
    for code in ("A", "B", "A2"):
        page, _ = opened(desk, file)
        orders.append(
            page.evaluate("code => order(code, 8).map(k => content.pictures[k].id)", code)
        )
        assert orders[-1] == page.evaluate(
            "code => order(code, 8).map(k => content.pictures[k].id)", code
        )
        page.close()
    assert len(set(map(tuple, orders))) == 3
    assert len(set(map(frozenset, orders))) == 1


def test_pictures_are_whole_multiples_and_the_page_holds_no_answer(desk, file, made):
    page, _ = opened(desk, file)
    begin(page, "C")
    learn(page)
    box = page.locator("img").bounding_box()
    assert box["width"] == box["height"] and box["width"] % SIDE == 0 and box["width"] >= 10 * SIDE
    content = json.loads(page.inner_text("#content") or page.text_content("#content"))
    assert all(set(entry) == {"id", "src"} for entry in content["pictures"])
    page.close()
