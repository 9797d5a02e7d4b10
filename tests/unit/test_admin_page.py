"""The admin page's files and what it asks for: open to all without a figure in it, in two languages, under strict headers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ai_cache_extproc.admin.shell import FOLDER, LANGUAGES, preferred
from ai_cache_extproc.meaning import Judged
from ai_cache_extproc.model import Reason
from tests.support.admin_client import LOCAL, admin
from tests.support.entries import TOKEN

WORDS = {language: json.loads((FOLDER / f"words.{language}.json").read_text()) for language in LANGUAGES}
SCRIPTS = {path.name: path.read_text() for path in FOLDER.glob("*.js")}
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name != "index.html")


class _Document(HTMLParser):
    """What a document asks the browser for, and what of it would have to be allowed inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.asks_for: list[str] = []
        self.inline: list[str] = []
        self.words: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.words |= {value for name, value in attrs if name in ("data-word", "data-label") and value}
        self.asks_for += [str(own[name]) for name in ("src", "href") if name in own and tag != "a"]
        self.inline += [f"{tag} {name}" for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in own):
            self.inline.append(tag)


async def test_the_page_is_open_and_says_nothing() -> None:
    """It is the same for everybody: the figures are asked for, with the token, by its script."""
    async with admin(headers={}) as asked:
        for path in ("/", "/page"):
            response = await asked.client.get(path)
            assert (307, "page/") == (response.status_code, response.headers["location"])
        response = await asked.client.get("/page/")
        assert 200 == response.status_code
        assert TOKEN not in response.text
        document = _Document(response.text)
    assert [] == document.inline
    assert ["icon.svg", "page.css", "main.js"] == document.asks_for


@pytest.mark.parametrize("path", ["/", "/page/", *(f"/page/{name}" for name in FILES)])
async def test_every_answer_of_the_page_is_under_the_policy(path: str) -> None:
    """Nothing from elsewhere, nothing inline, in nobody's frame, no text made markup."""
    async with admin(headers={}) as asked:
        headers = (await asked.client.get(path)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert "'none'" == policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri")
    assert "'none'" == policy.pop("form-action") == policy.pop("trusted-types")
    assert "'script'" == policy.pop("require-trusted-types-for")
    assert {"'self'"} == set(policy.values())
    assert {"script-src", "style-src", "img-src", "connect-src"} == policy.keys()
    assert ("nosniff", "no-referrer", "DENY") == tuple(
        headers[name] for name in ("x-content-type-options", "referrer-policy", "x-frame-options")
    )
    assert "same-origin" == headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"]


async def test_files_are_sent_once() -> None:
    """Asked again with its tag, a file that has not changed is 304; the tag of another one is not."""
    async with admin(headers={}) as asked:
        first = await asked.client.get("/page/main.js")
        tag = first.headers["etag"]
        assert "text/javascript; charset=utf-8" == first.headers["content-type"]
        again = await asked.client.get("/page/main.js", headers={"if-none-match": f'W/"x", {tag}'})
        assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
        assert 200 == (await asked.client.get("/page/api.js", headers={"if-none-match": tag})).status_code


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fshell.py", "%2e%2e", "page.css%00"])
async def test_there_are_no_other_files(name: str) -> None:
    """Names are looked up among those that were read at the start."""
    async with admin(headers={}) as asked:
        assert 404 == (await asked.client.get(f"/page/{name}")).status_code


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("de,zh;q=0.3", "zh"),
        ("ZH-hans-cn", "zh"),
        ("zh;q=0, en;q=0.1", "en"),
        ("zh;q=2,zh;q=x,zh;level=1", "en"),
        ("," * 1000 + "zh", "en"),
    ],
    ids=[
        "none",
        "Chinese",
        "rather Chinese",
        "rather English",
        "neither first",
        "cases",
        "not",
        "nonsense",
        "too many",
    ],
)
def test_the_language_is_the_one_that_is_liked_best(accepted: str, language: str) -> None:
    """English where neither is asked for."""
    assert language == preferred(accepted)


async def test_the_first_answer_is_in_the_reader_s_language() -> None:
    """As the browser asks, or as the address says; what keeps copies knows that it differs."""
    async with admin(headers={}) as asked:
        chinese = {"accept-language": "zh-CN,zh;q=0.9"}
        for path, headers, language in (
            ("/page/", {}, "en"),
            ("/page/", chinese, "zh"),
            ("/page/?lang=en", chinese, "en"),
            ("/page/?lang=zh", {}, "zh"),
            ("/page/?lang=xx", chinese, "zh"),
        ):
            response = await asked.client.get(path, headers=headers)
            assert f'<html lang="{WORDS[language]["lang"]}">' in response.text
            assert f">{WORDS[language]['title']}</h1>" in response.text
            assert "accept-language" == response.headers["vary"]


def test_both_languages_say_the_same() -> None:
    """The same words, with the same places for values."""
    english, chinese = WORDS["en"], WORDS["zh"]
    assert english.keys() == chinese.keys()
    for word, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[word])), word


def test_every_word_is_said_and_every_word_said_is_there() -> None:
    """Neither a name in place of a text nor a text that nobody sees."""
    said = _Document((FOLDER / "index.html").read_text()).words
    for text in SCRIPTS.values():
        said |= set(re.findall(r"(?:say|of|nothing|ms)\([^()]*?'([a-z_0-9]+)'", text))
        said |= set(re.findall(r"'([a-z_]+)'", text)) & WORDS["en"].keys()
    assert set() == {word for word in said if f"say('{word}'" in "".join(SCRIPTS.values())} - WORDS["en"].keys()
    assert {"lang", "pair_exact", "pair_semantic"} >= WORDS["en"].keys() - said


def test_no_script_makes_markup_of_a_text() -> None:
    """Nor is there a way to another host, or a place where the token would be kept."""
    for name, text in SCRIPTS.items():
        for word in (
            *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"),
            *("localStorage", "sessionStorage", "document.cookie", "indexedDB", "importScripts", "sendBeacon"),
        ):
            assert word not in text, name
        assert set() == set(re.findall(r"https?://[^'\s]*", text)) - {"http://www.w3.org/2000/svg"}
        assert all(path.startswith("./") for path in re.findall(r"from '([^']*)'", text)), name


def test_the_page_is_in_the_wheel() -> None:
    """Every kind of file that it has is package data."""
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    kinds = set(re.findall(r'"\*(\.\w+)"', re.search(r'^"\*" = \[.*$', project, re.MULTILINE)[0]))  # type: ignore[index]  # there is such a line
    assert {path.suffix for path in FOLDER.iterdir()} <= kinds


async def test_figures_are_for_the_token_s_holder() -> None:
    """With a while that makes sense."""
    async with admin() as asked:
        (id_,) = await asked.ids("m")
        asked.parts.metrics.meaning.judged("default", Judged(Reason.NO_RULE, 0.5), 0.01)
        for query in ("", "?seconds=900"):
            status, told = await asked.get(f"/overview{query}")
            assert (200, {"hit": 1.0, "miss": 1.0, "bypass": 0}) == (status, told["totals"]["requests"])
            assert {"no_rule": 1.0} == told["totals"]["semantic"]
            assert ({}, len(told["times_s"])) == (told["thresholds"], 1 + len(told["series"]["requests"]["hit"]))
        for seconds in ("", "0", "-1", "86401", "1e3", "٣"):
            status, told = await asked.get("/overview", params={"seconds": seconds})
            assert (400, ["error"]) == (status, list(told))
        assert 401 == (await asked.get("/overview", headers={"authorization": "Bearer no"}))[0]
        assert id_


async def test_a_look_serves_all_who_ask_within_a_second() -> None:
    """However many pages are open."""
    async with admin() as asked:
        await asked.ids("m")
        assert 1.0 == (await asked.get("/overview"))[1]["totals"]["requests"]["miss"]
        await asked.ids("n")
        assert 1.0 == (await asked.get("/overview"))[1]["totals"]["requests"]["miss"]
        asked.parts.clock.now_s += 1
        assert 2.0 == (await asked.get("/overview"))[1]["totals"]["requests"]["miss"]


async def test_a_list_may_be_asked_for_in_small_steps() -> None:
    """A page of it looks at so many keys at most, and the cursor leads on."""
    async with admin() as asked:
        wanted = sorted(await asked.ids(*"abcde"))
        found: list[str] = []
        cursor: str | None = ""
        calls = 0
        while cursor is not None:
            _, page = await asked.get("/entries", params={"keys": 2, "cursor": cursor})
            assert page["scanned"] <= 2
            found += [entry["id"] for entry in page["entries"]]
            cursor, calls = page["cursor"], calls + 1
        assert (wanted, 3) == (sorted(found), calls)
        for keys in ("0", "x", "50001"):
            assert 400 == (await asked.get("/entries", params={"keys": keys}))[0]


async def test_an_entry_whose_key_is_known_is_found_without_a_walk() -> None:
    """A key of another entry, or of somebody else, is not it."""
    async with admin(LOCAL) as asked:
        one, other = await asked.ids("a", "b")
        keys = {entry["id"]: entry["key"] for entry in (await asked.get("/entries"))[1]["entries"]}
        status, entry = await asked.get(f"/entries/{one}", params={"key": keys[one]})
        assert (200, one, "a") == (status, entry["id"], entry["model"])
        for key in (keys[other], f"else:{keys[one]}", keys[one][:-1], "x"):
            status, told = await asked.get(f"/entries/{one}", params={"key": key})
            assert (404, None) == (status, told["cursor"])
