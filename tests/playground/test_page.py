"""What the page shows and does, in a real browser, beside what both databases hold."""

import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.playground.conftest import Running
from tools.playground.observer import MAXIMUM_STREAMS

pytestmark = [pytest.mark.play, pytest.mark.slow, pytest.mark.timeout(900)]

SCENES = ("two-at-once", "crash", "sleeper", "redis-forgets", "lost-answer", "lock-alone")
DIVERGING = ("crash", "sleeper", "redis-forgets", "lost-answer", "lock-alone")
SCENE_MS = 300_000
SETTLE_SECONDS = 120.0
CLICKS = 200
TABS = ("tour", "free", "lock")
PICTURES = Path(__file__).resolve().parents[2] / "docs/images"
AXE_TAGS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


class Watched:
    """A page, and everything it complained of or asked others for."""

    def __init__(self, browser: Browser, playground: Running, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}} | context)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self._request(request.url, playground.url))
        self.page.goto(playground.url)
        self.page.wait_for_selector("body[data-ready]")

    def _console(self, message: Any) -> None:
        # A refusal (409, 503) is an answer, though the browser logs it as an error.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def _request(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:")):
            self.foreign.append(url)

    def tab(self, name: str) -> None:
        self.page.click(f"#tab-{name}")


@pytest.fixture
def watched(browser: Browser, playground: Running) -> Iterator[Watched]:
    made = Watched(browser, playground)
    yield made
    made.context.close()
    assert made.faults == []
    assert made.foreign == []


def _shown(page: Page) -> dict[str, tuple[str, str]]:
    """Every order on the page: id, and how its two sides are shown."""
    found = page.eval_on_selector_all(
        "#orders > li", "all => all.map(e => [e.dataset.order, e.dataset.o, e.dataset.i])"
    )
    return {order: (left, right) for order, left, right in found}


def _held(playground: Running) -> dict[str, tuple[str, str]]:
    """The same of the newest orders, from both databases."""
    columns = "version::text || ' ' || total::text || ' ' || status AS side"
    orders = playground.rows(
        "orders",
        f"SELECT id::text, CASE version WHEN 0 THEN 'none' ELSE {columns[:-8]} END AS side"
        " FROM orders ORDER BY created_at DESC, id LIMIT 6",
    )
    invoices = playground.rows("invoices", f"SELECT order_id::text AS id, {columns} FROM invoices")
    there = {row["id"]: row["side"] for row in invoices}
    return {row["id"]: (row["side"], there.get(row["id"], "none")) for row in orders}


def _settle(page: Page, playground: Running) -> None:
    """Bring everything back, and wait until nothing is on its way and the page says so."""
    deadline = time.monotonic() + SETTLE_SECONDS
    pending = "SELECT count(*) AS n FROM operations WHERE state = 'pending'"
    while True:
        up = page.locator('.part[data-state="up"]').count() == 6
        settled = up and playground.rows("orders", pending)[0]["n"] == 0
        if settled and _shown(page) == _held(playground):
            return
        assert time.monotonic() < deadline, (_shown(page), _held(playground))
        page.wait_for_timeout(300)


def _play(page: Page, scene: str) -> None:
    page.click(f'[data-scene="{scene}"]')
    expect(page.locator("#scene-play")).to_be_enabled(timeout=SCENE_MS)
    page.click("#scene-play")
    expect(page.locator("#scene-play")).to_be_disabled()
    expect(page.locator("#scene-play")).to_be_enabled(timeout=SCENE_MS)
    expect(page.locator("#scene-state")).to_have_text("")
    expect(page.locator("#scene-end")).to_be_visible()


@pytest.mark.parametrize("scene", SCENES)
def test_each_scene_keeps_the_shop_equal_and_shows_what_a_lock_alone_loses(
    watched: Watched, playground: Running, scene: str
) -> None:
    page = watched.page
    _play(page, scene)
    expect(page.locator("#shop-verdict")).to_have_class("verdict good")
    lost = scene in DIVERGING
    expect(page.locator("#control-verdict")).to_have_class(f"verdict {'bad' if lost else 'good'}")
    _settle(page, playground)
    if scene in {"crash", "sleeper"} and os.environ.get("PLAY_PICTURES"):
        page.screenshot(path=PICTURES / f"playground-{scene}.png")


def test_the_count_of_what_the_lock_alone_lost_is_what_its_tables_say(
    watched: Watched, playground: Running
) -> None:
    _play(watched.page, "crash")
    rows = {
        side: {row["id"]: row["total"] for row in playground.rows(side, "SELECT * FROM lock_only")}
        for side in ("control_orders", "control_invoices")
    }
    orders, invoices = rows["control_orders"], rows["control_invoices"]
    differing = sum(orders.get(key) != invoices.get(key) for key in orders.keys() | invoices.keys())
    assert differing > 0
    expect(watched.page.locator("#tally")).to_have_attribute("data-lost", str(differing))


def test_a_page_that_is_loaded_anew_finds_the_scene_and_the_ends_of_others(
    watched: Watched,
) -> None:
    page = watched.page
    _play(page, "lost-answer")
    page.click('[data-scene="two-at-once"]')
    page.click("#scene-play")
    expect(page.locator("#scene-play")).to_be_disabled()
    page.reload()
    expect(page.locator("#scene-title")).to_have_text("Two at once")
    expect(page.locator("#scene-play")).to_be_disabled()
    expect(page.locator("#scene-play")).to_be_enabled(timeout=SCENE_MS)
    expect(page.locator("#shop-verdict")).to_have_class("verdict good")
    page.click('[data-scene="lost-answer"]')
    expect(page.locator("#control-verdict")).to_have_class("verdict bad")
    expect(page.locator("#control-pairs > li")).to_have_count(2)


CLICK_ONE = """([everywhere, share]) => {
  const usable = [...document.querySelectorAll(everywhere)].filter(
    each => each.checkVisibility({visibilityProperty: true}) && !each.matches(":disabled"));
  usable[Math.floor(share * usable.length)].click();
}"""


def test_the_page_agrees_with_both_databases_after_200_random_clicks(
    watched: Watched, playground: Running
) -> None:
    seed = int(os.environ.get("PLAY_SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"PLAY_SEED={seed}\n")
    chance = random.Random(seed)
    page = watched.page
    watched.tab("free")
    page.click("#create button")
    expect(page.locator("#orders > li").first).to_be_visible(timeout=30_000)
    # The pace starts both services anew, which takes seconds: its switch is not among them.
    everywhere = "#view-free button, #parts button, #orders input"
    for _ in range(CLICKS):
        # One look and click in the page: it changes by itself in between otherwise.
        page.evaluate(CLICK_ONE, [everywhere, chance.random()])
        page.wait_for_timeout(chance.choice([20, 60, 150]))
    expect(page.locator("#crowd")).to_be_visible()
    page.click("#mend")
    _settle(page, playground)
    assert all(left == right for left, right in _shown(page).values())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 390])
def test_everybody_can_read_it(
    browser: Browser, playground: Running, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 844}
    watched = Watched(
        browser, playground, color_scheme=scheme, viewport=size, reduced_motion="reduce"
    )
    for tab in TABS:
        watched.tab(tab)
        watched.page.wait_for_timeout(300)
        results = Axe().run(watched.page, options=AXE_TAGS)
        assert results.violations_count == 0, results.generate_report()
        overflow = watched.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, tab
    watched.context.close()
    assert watched.faults + watched.foreign == []


def test_everything_is_reached_by_keyboard(watched: Watched) -> None:
    page = watched.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "tab-tour"
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-free")).to_be_visible()
    can_be_used = "e => e.checkVisibility() && !e.disabled && e.type !== 'radio'"
    everything = f"[...document.querySelectorAll('button, input, select')].filter({can_be_used})"
    page.evaluate("window.reached = new WeakSet([document.activeElement])")
    # Twice round, and somewhat more: what appears meanwhile is reached in the second round.
    for _ in range(2 * int(page.evaluate(f"{everything}.length")) + 20):
        page.keyboard.press("Tab")
        page.evaluate("window.reached.add(document.activeElement)")
    # Of tabs only the chosen one is in the order of Tab; arrows lead to the others.
    missed = page.evaluate(
        f"{everything}.filter(e => e.role !== 'tab' && !window.reached.has(e))"
        ".map(e => e.id || e.getAttribute('aria-label') || e.textContent)"
    )
    assert missed == []


def test_the_lock_alone_has_one_holder_a_line_and_fences_that_grow(watched: Watched) -> None:
    page = watched.page
    watched.tab("lock")
    page.click('[aria-label="Ann takes both, or waits"]')
    ann = page.locator("#people > li").nth(0)
    expect(ann).to_have_attribute("data-state", "holding")
    page.click('[aria-label="Ben takes the printer, or waits"]')
    ben = page.locator("#people > li").nth(1)
    expect(ben).to_have_attribute("data-state", "waiting")
    expect(page.locator("#office > li").first).to_contain_text("1. Ben")
    page.click('[aria-label="Ann lets go"]')
    expect(ben).to_have_attribute("data-state", "holding")
    page.click('[aria-label="Break the lock of the printer"]')
    expect(ben).to_have_attribute("data-state", "idle", timeout=30_000)
    expect(ben).to_contain_text("somebody broke the lock")
    fences = [int(each) for each in page.locator("#fences code").all_inner_texts()]
    assert fences == sorted(fences, reverse=True)
    assert len(set(fences)) == len(fences) >= 2


def test_readers_share_a_document_a_writer_is_alone_and_two_phones_are_two(
    watched: Watched,
) -> None:
    page = watched.page
    watched.tab("lock")
    document, phones = (page.locator("#office > li").nth(place) for place in (2, 3))
    cleo = page.locator("#people > li").nth(2)
    for takes, thing, shared in (
        ("the document, to write", document, "the document, to read"),
        ("one of two phones", phones, "one of two phones"),
    ):
        for who in ("Ann", "Ben"):
            page.click(f'[aria-label="{who} takes {shared}, or waits"]')
        expect(thing.locator(".holder")).to_have_count(2)
        page.click(f'[aria-label="Cleo takes {takes}, or waits"]')
        expect(cleo).to_have_attribute("data-state", "waiting")
        expect(thing).to_contain_text("1. Cleo")
        for who in ("Ann", "Ben"):
            page.click(f'[aria-label="{who} lets go"]')
        expect(cleo).to_have_attribute("data-state", "holding")
        page.click('[aria-label="Cleo lets go"]')
        expect(cleo).to_have_attribute("data-state", "idle")


def test_a_closed_page_leaves_no_load_running(browser: Browser, playground: Running) -> None:
    watched = Watched(browser, playground)
    watched.tab("free")
    watched.page.click("#create button")
    expect(watched.page.locator("#orders > li").first).to_be_visible(timeout=30_000)
    watched.page.click("#crowd")
    expect(watched.page.locator("#crowd")).to_have_text("Send them away")
    watched.context.close()
    other = Watched(browser, playground)
    other.tab("free")
    expect(other.page.locator("#crowd")).to_have_text("Keep 6 coming", timeout=30_000)
    other.context.close()


def test_a_page_that_was_refused_comes_back_by_itself(
    browser: Browser, playground: Running
) -> None:
    context = browser.new_context()
    page = context.new_page()
    with ExitStack() as stack:
        for number in range(MAXIMUM_STREAMS):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", playground.port)))
            host = f"Host: 127.0.0.1:{playground.port}\r\n\r\n"
            stream.sendall(f"GET /stream?page=somebody-{number} HTTP/1.1\r\n{host}".encode())
            assert b" 200 OK" in stream.recv(4_096)
        page.goto(playground.url)
        expect(page.locator("#link")).to_have_text("not connected")
    expect(page.locator("#link")).to_have_text("live", timeout=30_000)
    expect(page.locator("body[data-ready]")).to_be_attached()
    context.close()


def test_a_hidden_page_lets_go_of_its_stream_and_takes_it_up_again(
    browser: Browser, playground: Running
) -> None:
    hidden, other = Watched(browser, playground), Watched(browser, playground)
    other.tab("free")
    change = "document.dispatchEvent(new Event('visibilitychange'))"
    hide = "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
    hidden.page.evaluate(f"{hide}; {change}")
    other.page.click("#create button")  # the next picture finds it hidden
    expect(hidden.page.locator("#link")).to_have_text("resting", timeout=30_000)
    hidden.page.evaluate(f"delete document.hidden; {change}")
    expect(hidden.page.locator("#link")).to_have_text("live")
    other.page.click("#create button")
    newest = other.page.locator("#orders > li").first
    expect(newest).to_have_attribute("data-i", re.compile("created"), timeout=30_000)
    order = newest.get_attribute("data-order")
    shown = hidden.page.locator(f'#orders > li[data-order="{order}"]')
    expect(shown).to_be_attached(timeout=30_000)
    for each in (hidden, other):
        each.context.close()
        assert each.faults + each.foreign == []


def test_ctrl_c_leaves_nothing_behind(playground: Running) -> None:
    children = playground.folder.resolve()
    printed = playground.stop()
    assert "Stopped." in printed, printed
    assert playground.process.returncode == 0
    left = [
        command
        for process in Path("/proc").glob("[0-9]*")
        if str(children) in (command := _command(process))
    ]
    assert left == []


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
