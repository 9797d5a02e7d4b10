"""The admin page in a real browser, over real traffic through Envoy, with hostile questions, answers and model names.

`AICACHE_SCREENSHOTS=docs/images` has the pictures of `docs/admin-page.md` written there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from tests.support.entries import TOKEN
from tests.support.figures import scrape, wait_until
from tests.support.gateway import ROOT, Gateway
from tests.support.meanings import PATIENT_EMBEDDED
from tests.support.upstream import Received, Script, answer, completion

BROWSER = shutil.which("chromium")
HOSTILE = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"
SHOWN_MS_MAX = 20_000
PICTURE_BYTES_MAX = 150_000
CONFIG = {
    "admin_access": {"token": TOKEN},
    "identity": {"key": "canary-of-the-identity-key-canary-canary"},
    "embedder": PATIENT_EMBEDDED,
    "prices": [{"model": "gpt-*", "input_per_million": 250_000, "output_per_million": 1_000_000}],
    "rules": [
        {
            "name": "shadowed",
            "match": {"hosts": ["shadow.test"]},
            "layers": ["exact", "semantic"],
            "semantic": {"shadow": {"sample": 1.0}},
        },
        {"name": "default", "layers": ["exact", "semantic"]},
    ],
}
LIST = "How do I reverse a list in Python?"
ALIKE = ("How can I reverse a list in Python?", "how do i reverse a list in python", f"{LIST[:-1]} please?")
OTHERS = ("What is a star?", "Name three rivers of Asia.", HOSTILE, "Why is the sky blue?", "Say hello in Spanish.")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium")


def answering(received: Received) -> Script:
    """What the upstream says: the question back, so that hostile ones become hostile answers."""
    messages: Any = received.json()["messages"]
    return answer(completion(f"You asked: {messages[-1]['content']}"))


def ask(
    gateway: Gateway, question: str, *, model: str = "gpt-test", host: str = "llm.test", skip: str = "off"
) -> tuple[str, str]:
    """What the cache did, and the id that it says."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    headers = {"content-type": "application/json", "authorization": "Bearer canary-of-a-caller", "host": host}
    headers["x-higress-skip-ai-cache"] = skip
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        response.read()
        return response.headers["x-ai-cache-status"], response.headers["x-ai-cache-key"]


def hit(gateway: Gateway, question: str, **options: str) -> str:
    """Ask until it is a hit; its id. What was asked first is stored, and found by its meaning, behind the answer."""
    give_up = time.monotonic() + 20
    while (answered := ask(gateway, question, **options))[0] != "HIT":
        assert time.monotonic() < give_up, question
        time.sleep(0.02)
    return answered[1]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose cache has been used."""
    with Gateway(tmp_path_factory.mktemp("page"), CONFIG) as running:
        running.upstream.fresh(answering)
        hit(running, LIST)
        wait_until(
            lambda: scrape(running).total("aicache_indexed_total", result="added") > 0,
            "the first answer never came into the index",
        )
        for question in ALIKE:
            hit(running, question)
        for question in OTHERS:
            hit(running, question)
        hit(running, "Hostile names", model=HOSTILE)
        for question in (LIST, *ALIKE[:2]):
            ask(running, question, host="shadow.test")
            time.sleep(0.1)
        ask(running, "Not from the cache", skip="on")
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests; each has a window of its own, with nothing in it."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER)
        yield running
        running.close()


@dataclass
class Window:
    """A page of the browser, and all that it asked for and complained of.

    provoked: how complaints begin that are a test's doing; the browser's lines about answers that are no 200 always are.
    """

    page: Page
    home: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    provoked: tuple[str, ...] = ("Failed to load resource",)

    def open(self, *, token: str = TOKEN) -> Page:
        """Load the page and type the token."""
        self.page.goto(self.home)
        self.page.get_by_label(re.compile("Admin token|管理令牌")).fill(token)
        self.page.keyboard.press("Enter")
        return self.page

    def opened(self) -> Page:
        """The page with figures and entries in it."""
        page = self.open()
        expect(page.locator("#list tbody tr").first).to_be_visible()
        expect(page.locator("#chart-requests svg[role=img]")).to_be_visible()
        return page


Opening = Callable[..., Window]


@pytest.fixture
def window(gateway: Gateway, browser: Browser) -> Iterator[Opening]:
    """Opens windows; at the end, none of them has asked another host, been refused by its policy, or run anything hostile."""
    opened: list[Window] = []
    expect.set_options(timeout=SHOWN_MS_MAX)

    def open_window(**options: Any) -> Window:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(SHOWN_MS_MAX)
        own = Window(page, f"http://127.0.0.1:{gateway.sidecar_admin}/page/")
        page.on("request", lambda request: own.asked.append(request.url))
        page.on("console", lambda line: own.complaints.append(line.text))
        page.on("pageerror", lambda error: own.complaints.append(str(error)))
        opened.append(own)
        return own

    yield open_window
    for own in opened:
        assert {f"127.0.0.1:{gateway.sidecar_admin}"} == {urlsplit(url).netloc for url in own.asked}
        assert not any(TOKEN in url for url in own.asked)
        assert [] == [line for line in own.complaints if not line.startswith(own.provoked)]
        assert own.page.title() in {"AI cache", "AI 缓存"}
        own.page.context.close()


def card(page: Page, name: str) -> str:
    """The figure on a card."""
    return page.locator(f"#card-{name} .figure").inner_text()


def test_without_the_token_nothing_but_health_is_shown(window: Opening) -> None:
    """Sections are closed, a wrong token says so and opens none; the right one is nowhere but in memory."""
    own = window()
    page = own.open(token="wrong")
    expect(page.locator("#sign-in-fault")).to_contain_text("needs the token")
    expect(page.locator("#state")).to_have_text("Ready")
    expect(page.locator("#overview")).to_be_hidden()
    assert not [url for url in own.asked if urlsplit(url).path in {"/entries", "/overview", "/stats"}]
    own.opened()
    assert [{}, {}, "", []] == page.evaluate(
        "async () => [{...localStorage}, {...sessionStorage}, document.cookie, await indexedDB.databases()]"
    )
    assert own.home == page.url
    assert TOKEN not in page.content()
    assert "" == page.locator("#token").input_value()
    page.reload()
    expect(page.locator("#sign-in")).to_be_visible()
    expect(page.locator("#entries")).to_be_hidden()


def test_the_figures_are_what_was_counted(window: Opening, gateway: Gateway) -> None:
    """Cards, charts with their tables, the histogram with its threshold, shadow mode, health and plan; nothing secret."""
    page = window().opened()
    told = gateway.stats()["requests"]
    assert [str(told["hit"]), str(told["miss"])] == [card(page, "hits"), card(page, "misses")]
    # 4 tokens of input and 5 of output each, 1 and 5 dollars; the hostile model has no price.
    assert str(told["hit"] * 9) == card(page, "tokens")
    assert f"USD {(told['hit'] - 1) * 6}.00" == card(page, "money").replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"semantic [34]$", page.locator("#card-hits .note").inner_text())
    chart = page.locator("#chart-requests")
    assert "Semantic hit" in (chart.locator("svg[role=img]").get_attribute("aria-label") or "")
    chart.get_by_text("As a table").click()
    assert ["Until", "Exact hit", "Semantic hit", "Miss", "Bypass"] == chart.locator("thead th").all_inner_texts()
    expect(page.locator("#bypasses")).to_contain_text("skip_header")
    expect(page.locator("#chart-similarity .threshold")).to_have_count(1)
    expect(page.locator("#chart-similarity svg[role=img]")).to_contain_text("threshold 0.97")
    expect(page.locator("#lookups")).to_contain_text("hit")
    expect(page.locator("#shadow")).to_contain_text("Semantic candidates")
    expect(page.locator("#components")).to_contain_text("store")
    page.locator("#config summary").get_by_text("identity").click()
    expect(page.locator("#config")).to_contain_text("key_prefix")
    assert not [secret for secret in (TOKEN, "canary") if secret in page.content()]


def test_hostile_words_stay_words(window: Opening, gateway: Gateway) -> None:
    """In lists, facts, questions and answers; and the browser itself would refuse to make anything else of them."""
    id_ = hit(gateway, HOSTILE)
    own = window()
    page = own.opened()
    assert HOSTILE in page.locator("#list tbody").inner_text()
    page.locator(f"[data-id='{id_}']").click()
    expect(page.locator("#entry")).to_be_visible()
    expect(page.locator("#entry .content")).to_have_count(0)
    page.get_by_role("button", name="Show the content").click()
    expect(page.locator("#entry .content")).to_contain_text("You asked: <img src=x onerror=")
    expect(page.locator("#facts")).to_contain_text(HOSTILE)
    assert 0 == page.locator("img, main script, dialog script").count()
    own.provoked = (*own.provoked, "This document requires 'TrustedHTML'")
    with pytest.raises(Error, match="TrustedHTML"):
        page.evaluate("text => { document.body.innerHTML = text; }", HOSTILE)
    wait_until(lambda: bool(looks_at_content(gateway)), "nobody is said to have looked")
    looked = looks_at_content(gateway)[-1]
    assert (id_, "token", "127.0.0.1") == tuple(looked[name] for name in ("key", "caller", "client"))


def looks_at_content(gateway: Gateway) -> list[dict[str, Any]]:
    """Lines of the log that say who has looked; they are written a moment later."""
    lines = [json.loads(line) for line in gateway.sidecar.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "admin_content"]


def focused(page: Page) -> str:
    """What has the focus: its id, else its words."""
    found: str = page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()")
    return found


def tab_to(page: Page, name: str, *, most: int = 60) -> None:
    """Press the tabulator until it is there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page) == name:
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert "none" != outline, f"{name} does not show its focus"
            return
    raise AssertionError(f"no way to {name}")


def test_the_keyboard_alone_is_enough(window: Opening, gateway: Gateway) -> None:
    """From the link that skips the head to an answer that is removed: dialogs keep the focus, and give it back."""
    id_ = hit(gateway, "Why is the sky blue?")
    own = window()
    page = own.page
    page.goto(own.home)
    page.keyboard.press("Tab")
    assert "Skip to the content" == focused(page)
    page.keyboard.press("Enter")
    tab_to(page, "token")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#list tbody tr").first).to_be_visible()
    assert "main" == focused(page)
    tab_to(page, id_[:12])
    page.keyboard.press("Enter")
    expect(page.locator("#entry")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#entry")).to_be_hidden()
    assert id_[:12] == focused(page)
    page.keyboard.press("Enter")
    tab_to(page, "remove")
    page.keyboard.press("Enter")
    expect(page.locator("#sure")).to_be_visible()
    assert "no" == focused(page)
    page.keyboard.press("Escape")
    expect(page.locator("#sure")).to_be_hidden()
    assert "HIT" == ask(gateway, "Why is the sky blue?")[0]
    tab_to(page, "remove", most=10)
    page.keyboard.press("Enter")
    tab_to(page, "yes", most=3)
    page.keyboard.press("Enter")
    expect(page.locator("#entry-said")).to_have_text("Removed: 1.")
    assert "close" == focused(page)
    assert "MISS" == ask(gateway, "Why is the sky blue?")[0]


def test_a_wrong_answer_is_told_so(window: Opening, gateway: Gateway) -> None:
    """An answer that another question had is never given to this one again."""
    question = ALIKE[0]
    id_ = hit(gateway, question)
    page = window().opened()
    page.locator(f"[data-id='{id_}']").click()
    expect(page.locator("#facts")).to_contain_text("Answered by")
    page.get_by_role("button", name="This was wrong").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("#entry-said")).to_have_text("Noted. These two never match again.")
    assert "MISS" == ask(gateway, question)[0]


def test_entries_are_searched(window: Opening) -> None:
    """By the filters of the admin API; what they refuse is said, and nothing found is nothing."""
    page = window().opened()
    page.get_by_label("Model", exact=True).fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_contain_text("1 shown")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.get_by_label("Tag", exact=True).fill("none")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found")).to_contain_text("No entry like this")
    page.get_by_label("In another program's layout").check()
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found")).to_contain_text("The sidecar refuses: 'foreign' entries say nothing")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#list tbody tr").nth(3)).to_be_visible()


def test_the_language_is_turned_on_the_spot(window: Opening) -> None:
    """First as the browser asks; the token, the figures and the search stay while it is turned."""
    page = window(locale="zh-CN").opened()
    assert "zh-Hans" == page.locator("html").get_attribute("lang")
    expect(page.locator("#card-hits dt")).to_have_text("命中")
    page.get_by_label("模型", exact=True).fill("gpt-test")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#card-hits dt")).to_have_text("Hits")
    expect(page.get_by_role("heading", name="Entries")).to_be_visible()
    expect(page.get_by_role("navigation", name="Sections")).to_be_visible()
    assert "gpt-test" == page.get_by_label("Model", exact=True).input_value()
    assert "en" == page.locator("html").get_attribute("lang")


def test_the_token_is_forgotten_when_told(window: Opening) -> None:
    """With all that it had opened."""
    page = window().opened()
    page.get_by_role("button", name="Forget the token").click()
    expect(page.locator("#sign-in")).to_be_visible()
    assert "token" == focused(page)
    assert "" == page.locator("#list tbody").inner_text() == page.locator("#cards").inner_text()
    assert "" == page.locator("#config").inner_text() == page.locator("#chart-requests").inner_text()


PICTURES: dict[str, dict[str, Any]] = {
    "admin-page": {"viewport": {"width": 1280, "height": 1000}},
    "admin-page-semantic": {"viewport": {"width": 1280, "height": 520}, "reduced_motion": "reduce"},
    "admin-page-entry": {"viewport": {"width": 1000, "height": 760}, "color_scheme": "dark"},
    "admin-page-zh": {"viewport": {"width": 1280, "height": 1000}, "locale": "zh-CN"},
    "admin-page-phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(window: Opening, tmp_path: Path, name: str) -> None:
    """Small enough for the documentation; nothing is wider than the window, on a phone neither."""
    page = window(**PICTURES[name]).opened()
    if name.endswith("entry"):
        page.locator("#list tbody button").first.click()
        page.locator("#show").click()
        expect(page.locator("#entry .content")).to_be_visible()
    if name.endswith("semantic"):
        page.locator("nav a[href='#semantic']").click()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    folder = ROOT / os.environ["AICACHE_SCREENSHOTS"] if "AICACHE_SCREENSHOTS" in os.environ else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size < PICTURE_BYTES_MAX
