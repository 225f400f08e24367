"""`make chat`: a chatbot behind a page, each message a call of a warm pool; and what a visitor waits either way."""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT
from tests.installed import installed, needed
from tests.journeys.serving_jobs import Server, started
from tests.process.waiting import PATIENCE_S

needed("flask", "waitress", "spacy", "onnxruntime", "tokenizers", "sklearn", "chatterbot_corpus", "ftfy")
pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chatting(folder: Path) -> Iterator[Server]:
    """What `make chat` starts, with a few known questions."""
    made = re.search(r"\$\(RUN\) (examples/chat/\S+)", (ROOT / "Makefile").read_text())
    assert made is not None
    command = [str(ROOT / made[1]), "--port", "0", "--questions", "24"]
    with started(command, folder, r"http://127\.0\.0\.1:(\d+)/", ALLCORES_HOME=str(folder / "home")) as server:
        yield server


def test_the_chat(tmp_path: Path) -> None:
    """All that can be seen of it, in one test: its models take long to load, and tests are run by several processes."""
    with chatting(tmp_path) as chat:
        messages_are_answered_with_what_was_found_out(chat)
        what_is_no_message_is_refused(chat)
        both_ways_are_compared(chat)
        browser = CHROMIUM is not None and installed("playwright")
        if browser:
            the_page_in_a_browser(chat)
    if not browser:
        pytest.skip("the rest passed; for the page in a browser Chromium or Playwright is not installed")


class Visitor:
    """A browser without JavaScript."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def ask(self, path: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
        """Status and text."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        sent = {"Accept": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.server.address + path, data, sent)
        try:
            with self._opener.open(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def say(self, text: str) -> dict[str, Any]:
        """What comes of a message, as JSON."""
        status, answer = self.ask("/message", {"text": text}, Accept="application/json")
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found


def messages_are_answered_with_what_was_found_out(chat: Server) -> None:
    """Intent, entities, mood, and the nearest question; the page has the conversation, for its visitor alone."""
    visitor, other = Visitor(chat), Visitor(chat)
    assert visitor.ask("/")[0] == 200
    reply = visitor.say("I love the people in Berlin, they are great!")["reply"]
    assert ["Berlin", "GPE"] in reply["entities"] and reply["sentiment"] > 0.5
    assert reply["lang"] == "en" and reply["intent"] and 0 <= reply["likeness"] <= 1
    known = json.loads(json.dumps(visitor.say("What is your favorite language?")["reply"]))
    assert {"text", "nearest", "intent"} <= set(known)
    status, page = visitor.ask("/message", {"text": "Hello <script>alert(1)</script>"})
    assert status == 200 and "&lt;script&gt;" in page and "<script" not in page
    assert "in Berlin" in page
    assert "in Berlin" not in other.ask("/")[1]


def both_ways_are_compared(chat: Server) -> None:
    """The same messages, in the pool and in the request; p50 and p95 of each."""
    visitor = Visitor(chat)
    visitor.ask("/")
    status, page = visitor.ask("/compare", {})
    assert status == 200
    found = re.findall(r'<th scope="row">(the [a-z ]+), 4 visitors.*?<td>(\d+)</td><td>(\d+) ms</td><td>(\d+) ms', page)
    assert {name for name, *_ in found} == {"the pool", "the request itself"}
    for _, count, half, most in found:
        assert int(count) >= 24 and 0 < int(half) <= int(most)


def what_is_no_message_is_refused(chat: Server) -> None:
    """Nothing, too much, and a form of another site."""
    visitor = Visitor(chat)
    assert visitor.ask("/message", {"text": "  "})[0] == 400
    assert visitor.ask("/message", {"text": "x" * 2_001})[0] == 400
    assert visitor.ask("/message", {"text": "x" * 70_000})[0] == 413
    assert visitor.ask("/message", {"text": "hi"}, Sec_Fetch_Site="cross-site")[0] == 403
    assert visitor.ask("/", None, Host="elsewhere.example")[0] == 400
    assert visitor.say("Hello")["reply"]["text"]


def the_page_in_a_browser(chat: Server) -> None:
    """By keyboard, without JavaScript, nothing from elsewhere, and nothing wrong in the console."""
    import playwright.sync_api as playwright

    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            context = browser.new_context(java_script_enabled=False)
            page = context.new_page()
            asked: list[str] = []
            troubles: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: troubles.append(message.text))
            page.goto(chat.address)
            page.get_by_label("Your message").fill("Hello")
            page.keyboard.press("Enter")
            page.wait_for_selector("article#last")
            assert page.locator("article#last .me").inner_text() == "Hello"
            assert page.locator("article#last .bot").inner_text()
            assert all(url.startswith(chat.address) for url in asked), asked
            assert not troubles
        finally:
            browser.close()
