"""The console in a browser: every page, with and without JavaScript; it asks no other host and prints no error."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.installed import late
from tests.process.console import TOKEN, ended, make_app, store_of
from tests.process.waiting import wait_until as until
from werkzeug.serving import make_server

from allcores.jobs.job_files import JobFiles
from allcores.jobs.model import Finished, JobError, Progress, State
from allcores.jobs.store import JobStore

playwright = late("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The browser starts and ends processes of its own as it likes; all of them end with the module.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.leaks_allowed,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
EVIL = "<script>document.title='taken'</script>"


class Served:
    """A console with a job of each kind."""

    def __init__(self, address: str, store: JobStore, ids: dict[str, str]) -> None:
        self.address, self.store, self.ids = address, store, ids

    def url(self, path: str) -> str:
        return self.address + path.format(**self.ids)


@contextmanager
def serving(app: flask.Flask, ids: dict[str, str]) -> Iterator[Served]:
    """The app on a port of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_port}", store_of(app), ids)
    finally:
        app.extensions["allcores"].streams.close()
        server.shutdown()
        thread.join()
        server.server_close()
        store_of(app).close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    app = make_app(tmp_path_factory.mktemp("console"), ALLCORES_POLL_SECONDS=0.3)
    store = store_of(app)
    ids = {state.value: ended(store, state, result=EVIL, tags=("blue",)).id for state in State if state.is_final}
    error = JobError(EVIL, EVIL, f"Traceback\n{EVIL}")
    ids["evil"] = ended(store, State.FAILED, task="anything", arguments={"value": EVIL * 30}, error=error).id
    ids["files"] = ended(store, files={"table.csv": b"1,2\n"}).id
    ids["running"] = store.submit("nightly", {}).job.id
    with store.become_supervisor():
        (claim,) = store.claim(1, ["nightly"])
        store.report_progress(claim, Progress(400, 3, 1_000, time.time() - 40, time.time()))
    ids["queued"] = store.submit("square", {"n": 4}).job.id
    with serving(app, ids) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as api:
        found = api.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Any, served: Served, said: list[str] | None = None, **options: Any) -> Iterator[Any]:
    """A page of a user who has opened the address with the token; what it says and asks is checked at the end."""
    context = browser.new_context(**options)
    page = context.new_page()
    said = [] if said is None else said
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("warning", "error") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(f"{served.address}/?token={TOKEN}")
        assert "token" not in page.url
        yield page
        assert said == []
        assert len(asked) > 1
        assert [url for url in asked if not url.startswith((served.address + "/", "data:"))] == []
    finally:
        context.close()


PAGES = [
    "/", "/list", "/list?state=failed&q=wrong", "/failed", "/submit", "/submit/kinds", "/submit/pictures",
    "/submit/anything?like={evil}", "/schedules", "/workers", "/settings", "/audit", "/job/{succeeded}", "/job/{evil}",
    "/job/{files}", "/job/{running}", "/job/{queued}", "/job/{quarantined}", "/job/{timed_out}", "/job/{cancelled}",
]  # fmt: skip


#: those that show each template: without JavaScript a browser adds nothing to what the others have of the server
TEMPLATES = [
    "/", "/list", "/failed", "/submit", "/submit/kinds", "/schedules", "/workers", "/settings", "/audit", "/job/{evil}",
    "/job/{running}",
]  # fmt: skip


def visit(page: Any, served: Served, path: str, live_word: str) -> None:
    """Go to a page: it is drawn, and no value runs as a script."""
    answer = page.goto(served.url(path))
    assert answer.status == 200, path
    found = page.evaluate(DRAWN)
    assert (found["headings"], found["current"]) == (1, 1), path
    assert found["title"] != "taken", path
    assert found["live"] in ([], [live_word]), path


#: asked for at once: each question takes the browser's processes as long as the answer
DRAWN = """() => ({
  headings: document.querySelectorAll("h1").length, title: document.title,
  current: document.querySelectorAll("nav [aria-current=page]").length,
  live: [...document.querySelectorAll("[data-live-word]")].map(each => each.innerText),
})"""


def test_each_template_without_javascript(browser: Any, served: Served) -> None:
    """It is drawn, says nothing to the browser's console, and asks this host alone. With JavaScript: see below."""
    with opened(browser, served, java_script_enabled=False) as page:
        for path in TEMPLATES:
            visit(page, served, path, "Load the page again to see what is new")


def axe_script() -> str:
    """axe-core, as its package has it."""
    axe_core = pytest.importorskip("axe_core_python")
    return (Path(axe_core.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


#: what axe-core finds, but for what it calls minor or moderate: the rule, and the first element that breaks it
AXE = """async rules => (await axe.run(document, {resultTypes: ["violations"], ...rules})).violations
  .filter(each => each.impact === "serious" || each.impact === "critical")
  .map(each => `${each.id}: ${each.nodes[0].html.slice(0, 120)}: ${each.nodes[0].failureSummary}`)"""


def measure(page: Any, width: int, scheme: str, path: str) -> str:
    """Nothing is wider than the screen, texts are readable, and each field has a name; the page's ground."""
    found = page.evaluate(MEASURE)
    assert found["width"] in (width, width - 15), "the screen, or what a scroll bar leaves of it"
    assert found["scroll"] <= found["width"], (path, width)
    assert found["unnamed"] == [], path
    assert found["faint"] == [], (path, width, scheme)
    return str(found["ground"])


def test_each_page_in_all_sizes_and_colours(browser: Any, served: Served) -> None:
    """It is drawn, on a phone as well, dark colours are dark and readable, and axe-core finds nothing serious.

    Also that axe-core finds what is wrong in one that is. All of it of each page that is loaded, which takes longest.
    """
    script = axe_script()
    contrast = {"runOnly": ["color-contrast"]}
    grounds = set()
    with opened(browser, served, color_scheme="light") as page:
        for path in PAGES:
            page.set_viewport_size({"width": 390, "height": 800})
            visit(page, served, path, "Live")
            grounds.add(("light", measure(page, 390, "light", path)))
            page.emulate_media(color_scheme="dark")
            grounds.add(("dark", measure(page, 390, "dark", path)))
            page.set_viewport_size({"width": 1280, "height": 800})
            grounds.add(("dark", measure(page, 1280, "dark", path)))
            page.evaluate(script)
            assert page.evaluate(AXE, contrast) == [], path
            page.emulate_media(color_scheme="light")
            grounds.add(("light", measure(page, 1280, "light", path)))
            assert page.evaluate(AXE, {}) == [], path
        page.evaluate("document.querySelector('main').innerHTML = '<h1>Faint</h1><img src=\"data:,\"><input>'")
        found = " ".join(page.evaluate(AXE, {}))
        assert "image-alt" in found and "label" in found
        # A style in the text would be refused by the page's policy.
        page.evaluate("Object.assign(document.querySelector('h1').style, {color: '#888', background: '#777'})")
        assert "color-contrast" in " ".join(page.evaluate(AXE, contrast))
    assert len(grounds) == 2


#: widths; fields without a name; texts whose contrast is below what WCAG asks for (AA)
MEASURE = """() => {
  const luminance = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = each => {
    for (; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const each of document.querySelectorAll("body *")) {
    const text = [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!text || !each.checkVisibility()) continue;
    if (each.closest("svg, .hidden, .skip, option, [disabled]")) continue;
    const [a, b] = [luminance(getComputedStyle(each).color), luminance(ground(each))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(each.textContent.trim().slice(0, 40));
  }
  return {
    width: document.documentElement.clientWidth, scroll: document.documentElement.scrollWidth, faint,
    ground: getComputedStyle(document.body).backgroundColor,
    unnamed: [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a, summary")]
      .filter(each => !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim())
      .map(each => each.outerHTML),
  };
}"""


@pytest.mark.parametrize("script", [True, False])
def test_a_job_by_hand(browser: Any, served: Served, script: bool) -> None:
    """Submit with a mistake, then right; find it in the list, cancel it, run it again, look at the audit."""
    said: list[str] = []
    with opened(browser, served, said, java_script_enabled=script) as page:
        page.goto(served.url("/submit"))
        page.get_by_role("link", name=re.compile("square")).click()
        page.get_by_label("n", exact=True).fill("twelve")
        page.get_by_role("button", name="Submit").click()
        assert page.get_by_role("alert").inner_text().startswith("It was not submitted.")
        field = page.get_by_label("n", exact=True)
        assert field.input_value() == "twelve"
        assert field.get_attribute("aria-invalid") == "true"
        field.fill("12")
        page.get_by_role("button", name="Submit").click()
        assert page.get_by_role("status").inner_text() == "1 job submitted."
        job_id = page.url.split("/job/")[1].split("?")[0]
        page.get_by_role("link", name="Jobs", exact=True).click()
        page.locator(f'a[href="/job/{job_id}"]').click()
        page.locator("summary", has_text="Cancel").click()
        page.get_by_role("button", name="Cancel this job").click()
        assert served.store.get(job_id).state is State.CANCELLED  # type: ignore[union-attr]
        assert "Cancelled" in page.locator("#head").inner_text()
        page.get_by_role("link", name="Edit and run again").click()
        assert page.get_by_label("n", exact=True).input_value() == "12"
        page.get_by_role("link", name="Audit").click()
        assert "cancel" in page.locator("tbody tr").first.inner_text()
        # Chromium calls any answer of 422 a failure, and says so in its own time.
        said[:] = [each for each in said if "422" not in each]


@pytest.mark.parametrize("ahead_s", [-7_000.0, 7_000.0])
def test_times_are_the_servers_whatever_the_browsers_clock_says(browser: Any, served: Served, ahead_s: float) -> None:
    """A job that was submitted a moment ago is not said to be of two hours ago, nor to come."""
    job = served.store.submit("square", {"n": 9}).job
    with opened(browser, served) as page:
        page.clock.set_fixed_time(datetime.fromtimestamp(time.time() + ahead_s, UTC))
        page.goto(served.url(f"/job/{job.id}"))
        asked: list[int] = []
        page.on("response", lambda response: asked.append(response.status))
        until(lambda: page.evaluate("1") == 1 and 304 in asked)
        served.store.cancel([job.id], "someone")
        page.locator("#head", has_text="Cancelled").wait_for()
        shown = page.locator("#job-facts time").all_inner_texts()
        assert len(shown) == 2 and all(re.fullmatch(r"\d+ (s|min) ago|in \d s", each) for each in shown), shown


def test_what_changes_comes_by_itself(browser: Any, served: Served) -> None:
    """On a page that is looked at; what is being used is left alone, and nothing is asked for while it is hidden."""
    job = served.store.submit("square", {"n": 5}).job
    with opened(browser, served) as page:
        page.goto(served.url(f"/job/{job.id}"))
        assert "Queued" in page.locator("#head").inner_text()
        asked: list[int] = []
        page.on("response", lambda response: asked.append(response.status))
        until(lambda: page.evaluate("1") == 1 and 304 in asked)
        served.store.cancel([job.id], "someone")
        page.locator("#head", has_text="Cancelled").wait_for()
        page.goto(served.url("/list"))
        page.locator("input[name=id]").first.check()
        served.store.submit("square", {"n": 6})
        page.locator("#tabs .count").first.wait_for()
        before = page.locator("#tabs").inner_text()
        served.store.submit("square", {"n": 7})
        until(lambda: bool(page.locator("#tabs").inner_text() != before))
        assert page.locator("input[name=id]").first.is_checked()


def test_what_comes_up_while_a_page_is_looked_at_stands_on_it(browser: Any, served: Served) -> None:
    """A log, an attempt that failed, a result to copy: parts that the page did not have when it was opened."""
    store = served.store
    job = store.submit("nightly", {}).job
    with opened(browser, served) as page:
        page.goto(served.url(f"/job/{job.id}"))
        assert "Queued" in page.locator("#head").inner_text()
        with store.become_supervisor():
            claim = next(each for each in store.claim(100, ["nightly"]) if each.job.id == job.id)
            JobFiles(store.folder, job.id).log("it has begun")
            error = JobError("ValueError", "the first one", "Traceback ...")
            store.finish(claim, Finished(State.QUEUED, error=error))
            page.locator("#attempts", has_text="the first one").wait_for()
            page.locator("#logs", has_text="it has begun").wait_for()
            claim = next(each for each in store.claim(100, ["nightly"]) if each.job.id == job.id)
            store.finish(claim, Finished(State.SUCCEEDED, result={"rows": 7}))
        page.locator("#outcome", has_text="rows").wait_for()
        page.locator("#outcome button", has_text="Copy").click()
        page.locator("#outcome button", has_text="Copied").wait_for()


def test_all_jobs_of_a_page_are_ticked_at_once(browser: Any, served: Served) -> None:
    """By the box above them, which is there after a change as well."""
    with opened(browser, served) as page:
        page.goto(served.url("/list"))
        for ticked in (True, False):
            page.locator("input[data-all]").set_checked(ticked)
            boxes = page.locator("input[name=id]")
            assert boxes.count() > 3
            assert {boxes.nth(place).is_checked() for place in range(boxes.count())} == {ticked}
        page.locator("h1").click()
        job = served.store.submit("square", {"n": 8}).job
        page.locator(f'a[href="/job/{job.id}"]').wait_for()
        assert page.locator("input[data-all]").is_visible()


def differs(page: Any, before: str) -> bool:
    return bool(page.locator("#facts").inner_text() != before)


def test_what_changes_is_told_where_there_is_a_stream(browser: Any, tmp_path: Path) -> None:
    """Then a page need not ask: here it would do so after ten minutes. One that finds no free stream asks as ever."""
    app = make_app(tmp_path, ALLCORES_POLL_SECONDS=600, ALLCORES_EVENT_STREAMS=1)
    with serving(app, {}) as served, opened(browser, served) as page:
        for state in (State.SUCCEEDED, State.FAILED):
            before = page.locator("#facts").inner_text()
            ended(served.store, state)
            until(partial(differs, page, before))
        streams: list[str] = []
        with opened(browser, served) as other:
            other.on("request", lambda request: streams.append(request.url))
            other.reload()
            until(lambda: other.evaluate("document.documentElement.dataset.events") is None)
            assert served.url("/events") in streams
            assert other.locator("[data-live-word]").inner_text() == "Live"


def test_by_keyboard_alone(browser: Any, served: Served) -> None:
    """The first stop leads past the navigation, "/" to the search, and a question opens and is answered with Enter."""
    job = ended(served.store, State.FAILED, arguments={"n": 77})
    with opened(browser, served) as page:
        page.goto(served.url("/list"))
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("/")
        page.keyboard.type("77")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=77**")
        page.goto(served.url(f"/job/{job.id}"))
        page.locator("summary", has_text="Delete").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Delete this job"
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Undo").wait_for()
        assert served.store.get(job.id) is None
        page.get_by_role("button", name="Undo").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**did=undelete**")
        assert served.store.get(job.id) is not None


def test_a_page_whose_form_was_sent_asks_for_nothing(browser: Any, served: Served) -> None:
    """For a while: its job may be gone before the next page is there, which a browser tells of as an error."""
    asked: list[str] = []
    with opened(browser, served) as page:
        page.clock.install()
        page.goto(served.url("/job/{failed}"))
        page.evaluate("document.addEventListener('submit', (event) => event.preventDefault())")
        with page.expect_request(page.url):
            page.clock.run_for(1_000)
        page.locator("summary", has_text="Delete").click()
        page.get_by_role("button", name="Delete this job").click()
        page.on("request", lambda request: asked.append(request.method))
        page.clock.run_for(5_000)
        page.evaluate("fetch('/settings').then((answer) => answer.text())")
        assert len(asked) == 1
        with page.expect_request(page.url):
            page.clock.run_for(15_000)


def test_a_form_that_is_sent_twice_is_one_job(browser: Any, served: Served) -> None:
    """A double click, and one more since nothing has come yet; on the page as it is shown again it is another job."""
    with opened(browser, served) as page:
        page.goto(served.url("/submit/square"))
        sent = page.evaluate("""() => {
            let sent = 0;
            addEventListener("submit", (event) => { sent += !event.defaultPrevented; event.preventDefault(); });
            document.querySelector("main form input[type=text]").value = "12";
            for (const time of [1, 2, 3]) document.querySelector("main form button").click();
            return sent;
        }""")
        assert sent == 1
        page.goto(served.url("/submit/square"))
        addresses = []
        for _ in range(2):
            page.get_by_label("n", exact=True).fill("12")
            page.get_by_role("button", name="Submit").click()
            page.wait_for_url("**/job/*")
            addresses.append(page.url)
            page.go_back()
        assert len(set(addresses)) == 2


def test_the_token_is_asked_for(browser: Any, served: Served) -> None:
    """A browser that has none gets a form; typed in, it leads to where one wanted to go."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(served.url("/job/{failed}"))
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open the console").click()
        assert page.url == served.url("/job/{failed}")
        page.get_by_role("button", name="Log out").click()
        assert page.goto(served.url("/list")).status == 401
    finally:
        context.close()
