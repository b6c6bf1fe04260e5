"""The page in a real browser, opened from the disk, with no network."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from runs import finished

from mpox.report import page, words

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# A newcomer's machine may have none; .ci/run installs one and sets the variable.
if not CHROMIUM and not os.environ.get("MPOX_BROWSER_REQUIRED"):
    pytest.skip("no chromium on this machine", allow_module_level=True)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run")  # fmt: skip
HOSTILE = "<script>window.hostile = 1</script>\"><img src=x onerror='window.hostile = 1'>\u202e"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with hostile prompts, none of which may ever run as code."""
    prompts = ("generate.prompt", "generate.negative_prompt", "train.validation_prompt")
    changes = {key: f"'{HOSTILE.replace(chr(39), chr(39) * 2)}'" for key in prompts}
    return finished(tmp_path_factory.mktemp("run"), n=6, changes=changes)


@pytest.fixture(scope="module")
def file(run, tmp_path_factory) -> Path:
    written = tmp_path_factory.mktemp("page") / "index.html"
    written.write_text(page.build(run), encoding="utf-8")
    return written


@pytest.fixture
def opened(browser, file):
    """The page; any console message or request is a failure."""
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    shown = context.new_page()
    said: list[str] = []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: said.append(dialog.message))
    shown.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("data:", file.as_uri())) else said.append(asked.url)
        ),
    )
    shown.goto(file.as_uri())
    yield shown
    assert said == []
    assert shown.evaluate("window.hostile") is None
    context.close()


def test_every_picture_decodes(opened: Page):
    sizes = opened.eval_on_selector_all("img[src]", "all => all.map(each => each.naturalWidth)")
    assert len(sizes) == 6 + 6 + 4 + 2 * 6 + 6 and min(sizes) > 0


def test_the_page_shows_the_sentences_of_the_rules(opened: Page, run):
    shown = opened.locator("#words .text").all_inner_texts()
    expected = [sentence.text for sentence in words.section(run)["sentences"]]
    assert [text.replace("\u00a0", " ") for text in shown] == expected


def test_hostile_text_is_shown_as_text(opened: Page):
    assert "<script>window.hostile = 1</script>" in opened.locator("#paper").inner_text()
    assert "\u202e" not in opened.content()


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_a_picture_is_enlarged_and_arrow_keys_show_the_next(opened: Page, how):
    first = opened.locator("#look .pictures").last.locator("button.picture").first
    if how == "click":
        first.click()
    else:
        first.focus()
        opened.keyboard.press("Enter")
    viewer = opened.locator("dialog#viewer")
    assert viewer.is_visible()
    caption = viewer.locator("figcaption")
    assert "synthetic picture 00000" in caption.inner_text()
    assert "seed: 1000" in caption.inner_text() and "1 of 6" in caption.inner_text()
    width = viewer.locator("img").bounding_box()["width"]
    assert width > 4 * first.bounding_box()["width"]
    for key, place in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1),
                       ("ArrowLeft", 6), ("ArrowRight", 1)):  # fmt: skip
        opened.keyboard.press(key)
        assert f"{place} of 6" in caption.inner_text()
        assert f"seed: {999 + place}" in caption.inner_text()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert opened.evaluate("document.activeElement.querySelector('img').alt").endswith("00001")


def test_the_buttons_of_the_viewer_work(opened: Page):
    opened.locator("#look .pairs button.picture").first.click()
    caption = opened.locator("#viewer figcaption")
    assert "1 of 4" in caption.inner_text()
    opened.get_by_label("Next picture").click()
    assert "the training photo it resembles most" in caption.inner_text()
    opened.get_by_label("Previous picture").click()
    assert "synthetic picture" in caption.inner_text()
    opened.get_by_role("button", name="Close").click()
    assert not opened.locator("#viewer").is_visible()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(opened: Page, width, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground, ink = opened.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert (ground == "rgb(255, 255, 255)") is (scheme == "light") and ground != ink


def test_links_lead_to_their_sections(opened: Page):
    opened.locator("#words a").first.click()
    opened.get_by_role("link", name="Provenance").first.click()
    assert opened.evaluate("location.hash") == "#provenance"
    assert opened.locator("#provenance").is_visible()


def test_it_prints(opened: Page):
    opened.emulate_media(media="print")
    assert not opened.locator("nav").is_visible()
    assert opened.pdf().startswith(b"%PDF")


def test_without_script_everything_is_still_there(browser, file):
    context = browser.new_context(offline=True, java_script_enabled=False)
    shown = context.new_page()
    shown.goto(file.as_uri())
    assert shown.locator("img[src]").count() == 6 + 6 + 4 + 2 * 6 + 6
    assert shown.locator("#measures svg").first.is_visible()
    context.close()
