"""A chatbot behind a web page, whose work is done by a warm pool: `make chat`, or

    python examples/chat/chat.py [--port 8322] [--questions N]

Each message is one call of the pool: the models are loaded once, before the first message, and shared by all workers; a
message that takes too long, or ends its worker, costs that one reply. `Compare` does the same work inside the request
as well, and shows what a visitor waits either way.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bot import LONGEST, Bot, Known, Reply, learn
from flask import Flask, Response, abort, make_response, redirect, render_template, request, url_for
from latency import Latencies, race

from allcores import Pool, TaskTimeout, WorkerLost, core_budget

#: seconds for one reply
TIMEOUT_S = 10.0
#: conversations that are remembered, and messages of each
MOST_TALKS, MOST_LINES = 500, 100
#: messages of a comparison, and how many visitors send them at a time
RACE_MESSAGES, VISITORS = 48, 4


@dataclass(frozen=True, slots=True)
class Line:
    """One message with what came of it.

    Attributes:
        trouble: Why there is no reply.
        ms: What the visitor waited.
    """

    message: str
    reply: Reply | None
    trouble: str | None
    ms: float


def load(known: Known) -> Bot:
    """What is loaded once, and shared by all workers."""
    return Bot(known)


def reply(bot: Bot, message: str) -> Reply:
    """One message; runs in a worker."""
    return bot.reply(message)


class Service:
    """The pool, and what was measured. Threads of the server share it."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.pool = Pool(preload=load, preload_args=(known,))
        self.latencies = Latencies()
        self.compared: dict[str, Latencies] = {}
        self._talks: OrderedDict[str, deque[Line]] = OrderedDict()
        self._lock = threading.Lock()
        self._racing = threading.Lock()

    def talk(self, name: str) -> list[Line]:
        """The lines of a conversation."""
        with self._lock:
            return list(self._talks.get(name, ()))

    def say(self, name: str, message: str) -> Line:
        """Get a reply, and remember it."""
        begun = perf_counter()
        found: Reply | None = None
        trouble: str | None = None
        try:
            found = self.pool.call(reply, (message,), timeout=TIMEOUT_S).result()
        except TaskTimeout:
            trouble = f"That took me more than {TIMEOUT_S:g} s, so I gave it up. Try a shorter message."
        except WorkerLost:
            trouble = "That message ended the process that read it. The others go on; try another one."
        line = Line(message, found, trouble, (perf_counter() - begun) * 1e3)
        self.latencies.add(line.ms)
        with self._lock:
            lines = self._talks.setdefault(name, deque(maxlen=MOST_LINES))
            lines.append(line)
            self._talks.move_to_end(name)
            while len(self._talks) > MOST_TALKS:
                self._talks.popitem(last=False)
        return line

    def warm_up(self) -> None:
        """Have the workers there, with their models, before the first visitor comes."""
        for future in [self.pool.call(reply, ("Hello",)) for _ in range(2 * core_budget().workers)]:
            future.result()

    def compare(self) -> bool:
        """Send known questions both ways; False if a comparison is at work already."""
        if not self._racing.acquire(blocking=False):
            return False
        try:
            bot, turn = Bot(self.known), threading.Lock()  # as a request would have it that works for itself

            def in_request(message: str) -> Reply:
                """spaCy's models are not made for several threads at a time: who comes second waits."""
                with turn:
                    return bot.reply(message)

            messages = [question for question, _ in self.known.pairs[:: max(1, len(self.known.pairs) // RACE_MESSAGES)]]
            self.compared = race(
                {
                    "the pool": lambda message: self.pool.call(reply, (message,), timeout=TIMEOUT_S).result(),
                    "the request itself": in_request,
                },
                messages[:RACE_MESSAGES],
                at_a_time=VISITORS,
            )
            return True
        finally:
            self._racing.release()

    def close(self) -> None:
        """End the workers."""
        self.pool.close()


def create_app(service: Service) -> Flask:
    """The pages."""
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost"]
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = 64 * 1024

    @app.before_request
    def only_from_our_own_pages() -> None:
        """A page of another site must not talk here: browsers say where a request comes from."""
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            abort(403)

    @app.after_request
    def nothing_from_elsewhere(response: Response) -> Response:
        """No script, style or picture but our own."""
        policy = ("default-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'", "form-action 'self'")
        response.headers["Content-Security-Policy"] = "; ".join(policy)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/")
    def index() -> Response:
        """The conversation."""
        name = request.cookies.get("talk") or secrets.token_urlsafe(16)
        page = render_template(
            "chat.html",
            lines=service.talk(name),
            latencies=service.latencies,
            compared=service.compared,
            questions=len(service.known.pairs),
            longest=LONGEST,
            visitors=VISITORS,
        )
        response = make_response(page)
        response.set_cookie("talk", name, httponly=True, samesite="Strict")
        return response

    @app.post("/message")
    def message() -> Any:
        """One message: a page for a browser, JSON for who asks for that."""
        text = request.form.get("text", "").strip()
        if not text or len(text) > LONGEST:
            return {"error": f"text: give 1 to {LONGEST:,} characters"}, 400
        line = service.say(request.cookies.get("talk", ""), text)
        if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
            return {
                "message": line.message,
                "reply": None if line.reply is None else line.reply.as_dict(),
                "trouble": line.trouble,
                "ms": round(line.ms, 1),
            }
        return redirect(url_for("index"), 303)

    @app.post("/compare")
    def compare() -> Any:
        """Both ways, with several visitors at a time."""
        if not service.compare():
            return {"error": "a comparison is at work: wait for it"}, 409
        return redirect(url_for("index"), 303)

    return app


def main() -> None:
    """Learn, start the pool, serve until Ctrl-C."""
    from waitress import create_server

    parser = argparse.ArgumentParser(description="A small chatbot in the browser, on a warm pool.")
    parser.add_argument("--port", type=int, default=8322, help="0 takes a free one")
    parser.add_argument("--questions", type=int, default=None, metavar="N", help="know so many questions only")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("giving each known question its vector, on all cores (kept: the next start takes no time) ...", flush=True)
    service = Service(learn(limit=given.questions))
    try:
        service.warm_up()
        server = create_server(create_app(service), host="127.0.0.1", port=given.port, threads=8)
        print(f"http://127.0.0.1:{server.effective_port}/", flush=True)
        server.run()
    finally:
        service.close()


if __name__ == "__main__":
    main()
