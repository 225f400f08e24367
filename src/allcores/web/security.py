"""Who asks, and what they may do: tokens and cookies, roles, forged requests, and the headers of every answer.

| threat | answer |
|---|---|
| a program or user who has no business here | a token, always; compared in constant time; after many wrong ones: wait |
| a page elsewhere that posts a form | a token in each form, and the browser's own word on where a request is from |
| a name of another site that leads here | hosts that are not known are refused |
| a value that is HTML | it is escaped; scripts run only with this answer's nonce; nobody may frame the console |
| a user who may only look | viewer, operator, admin, checked for each route |
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import flask
from werkzeug.exceptions import SecurityError
from werkzeug.wrappers import Response

from allcores.web.settings import Settings, trusted, without_port

#: how long a cookie is good for
COOKIE_SECONDS = 30 * 86_400
#: wrong tokens from one address before further ones are told to wait, and for how long
MOST_WRONG, WRONG_SECONDS = 30, 60.0
#: addresses that are remembered
MOST_ADDRESSES = 10_000
CSRF_FIELD = "_csrf"


class Role(enum.IntEnum):
    """What a user may do: look, act on jobs, or also remove them."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        name: Stands in the audit log beside each change.
        role: What they may do.
        csrf: What a form of theirs has to carry; empty for a program, which sends its token with each request.
        cookie: A cookie to be set: the token came in the address.
    """

    name: str
    role: Role
    csrf: str = ""
    cookie: str = ""

    def may(self, role: Role) -> bool:
        """Whether this user may do what needs the role."""
        return self.role >= role


class Refused(Exception):
    """A request is not answered: why, in one sentence."""

    def __init__(self, status: int, code: str, message: str, wait: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.wait = status, code, message, wait


class WrongTokens:
    """Counts wrong tokens by address, for this process; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, float]] = {}

    def wait(self, address: str) -> float:
        """Seconds that a wrong token from there is told to wait; 0: none."""
        with self._lock:
            count, since = self._seen.get(address, (0, 0.0))
            left = since + WRONG_SECONDS - time.monotonic()
            return left if count >= MOST_WRONG and left > 0 else 0.0

    def note(self, address: str) -> None:
        """One more wrong token."""
        now = time.monotonic()
        with self._lock:
            count, since = self._seen.get(address, (0, now))
            if now - since > WRONG_SECONDS:
                count, since = 0, now
            if address not in self._seen and len(self._seen) >= MOST_ADDRESSES:
                self._seen.pop(next(iter(self._seen)))
            self._seen[address] = (count + 1, since)


def parts_of(address: str) -> SplitResult:
    """The parts of an address from outside; all of them are empty if it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def same(one: str, other: str) -> bool:
    """Whether two secrets are the same, in a time that does not depend on where they differ, nor on their lengths."""
    return hmac.compare_digest(hashlib.sha256(one.encode()).digest(), hashlib.sha256(other.encode()).digest())


def _sign(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def cookie_name(request: flask.Request) -> str:
    """Cookies do not know ports: consoles on several ports of a host each have their own."""
    port = urlsplit(f"//{request.host}").port
    return f"allcores_{port or 'console'}"


class Gate:
    """Decides about each request.

    Args:
        settings: The app's.
        tokens: By name: the token and the name of the role; what is set, or what was made up.
        secret: Signs forms of users that the app itself knows.
    """

    def __init__(self, settings: Settings, tokens: dict[str, tuple[str, str]], secret: str) -> None:
        self._settings = settings
        self._tokens = {name: (token, Role[role.upper()]) for name, (token, role) in tokens.items()}
        self._secret = secret
        self.wrong = WrongTokens()

    def check_host(self, request: flask.Request) -> None:
        """Refuse names of this machine that are not known: a page elsewhere can have a name that leads here.

        Raises:
            Refused: 400.
        """
        try:
            host = without_port(request.host)
        except SecurityError:
            named = request.headers.get("Host", "")[:100]
            raise Refused(
                400, "unknown_host", f"The host {named!r} is not known here: add it to TRUSTED_HOSTS of the app."
            ) from None
        if not trusted(host, self._settings.trusted_hosts):
            raise Refused(
                400,
                "unknown_host",
                f"The host {host[:100]!r} is not known here: add it to ALLCORES_TRUSTED_HOSTS (serve: --trusted-host).",
            )

    def tokens(self) -> dict[str, tuple[str, str]]:
        """Each name with its token and role, for who starts the server."""
        return {name: (token, role.name.lower()) for name, (token, role) in self._tokens.items()}

    def names(self) -> list[tuple[str, Role]]:
        """Who has a token, and what they may do."""
        return sorted((name, role) for name, (_, role) in self._tokens.items())

    def user(self, request: flask.Request, *, link: bool) -> User:
        """Who asks.

        Args:
            request: The request.
            link: A token in the address counts: for pages.

        Raises:
            Refused: 401 without credentials or with wrong ones, 429 after too many wrong ones.
        """
        if self._settings.authorize is not None and (told := self._settings.authorize(request)) is not None:
            if not isinstance(told, User):
                raise TypeError(f"ALLCORES_AUTHORIZE has to return an allcores.web.User or None, not {told!r}")
            return User(told.name, told.role, csrf=_sign(self._secret, f"csrf|{told.name}"))
        header = request.headers.get("Authorization", "")
        if header:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer":
                raise Refused(401, "no_credentials", "Send the token as 'Authorization: Bearer TOKEN'.")
            return self.by_token(request, token.strip())
        # A link with a token is for browsers that come to look.
        if link and request.method == "GET" and (shown := request.args.get("token")):
            known = self.by_token(request, shown)
            return User(known.name, known.role, cookie=self.new_cookie(known.name))
        cookie = request.cookies.get(cookie_name(request), "")
        if (user := self._by_cookie(cookie)) is not None:
            return user
        raise Refused(
            401, "no_credentials", "This needs a token: open the address that the server printed, or send "
            "'Authorization: Bearer TOKEN'.",
        )  # fmt: skip

    def by_token(self, request: flask.Request, token: str) -> User:
        """Whose token it is. A right one is let in, whatever came from its address: it may be a proxy's, of all users.

        Raises:
            Refused: 401, or 429 after too many wrong ones from one address.
        """
        found = None
        for name, (known, role) in self._tokens.items():
            if same(token, known):
                found = User(name, role)
        if found is not None:
            return found
        address = request.remote_addr or ""
        if wait := self.wrong.wait(address):
            raise Refused(429, "too_many_wrong_tokens", "Too many wrong tokens came from this address.", int(wait) + 1)
        self.wrong.note(address)
        raise Refused(401, "wrong_token", "That token is not valid here.")

    def new_cookie(self, name: str) -> str:
        """What a browser keeps instead of the token."""
        issued = int(time.time())
        return f"{name}|{issued}|{_sign(self._tokens[name][0], f'cookie|{name}|{issued}')}"

    def _by_cookie(self, cookie: str) -> User | None:
        name, _, rest = cookie.partition("|")
        issued, _, signature = rest.partition("|")
        if name not in self._tokens or not (issued.isascii() and issued.isdigit() and len(issued) < 15):
            return None
        token, role = self._tokens[name]
        if not same(signature, _sign(token, f"cookie|{name}|{issued}")):
            return None
        if not -300 < time.time() - int(issued) < COOKIE_SECONDS:
            return None
        return User(name, role, csrf=_sign(token, f"csrf|{cookie}"))

    def check_origin(self, request: flask.Request) -> None:
        """Refuse what a page elsewhere makes a browser send.

        Raises:
            Refused: 403.
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            raise Refused(403, "cross_site", "This request comes from another site.")
        if site == "same-origin":
            # No script can set that. The origin has a port that a proxy may have left out of the host (nginx's $host).
            return
        origin = request.headers.get("Origin")
        # The scheme is not compared: behind a server that ends TLS it is another.
        if origin is not None and parts_of(origin).netloc.lower() != request.host.lower():
            raise Refused(403, "cross_site", "This request comes from another site.")

    def check_form(self, request: flask.Request, user: User) -> None:
        """Refuse changes that lack what this console's own forms carry.

        Raises:
            Refused: 403.
        """
        if user.csrf:
            sent = request.headers.get("X-CSRF-Token") or request.form.get(CSRF_FIELD, "")
            if not same(sent, user.csrf):
                raise Refused(
                    403,
                    "no_csrf_token",
                    "This form is out of date or from elsewhere: load its page again, then send it.",
                )


def set_cookie(response: Response, request: flask.Request, value: str, settings: Settings) -> None:
    """Keep who it is in the browser: no script reads it, and no other site sends it along with a form."""
    response.set_cookie(
        cookie_name(request),
        value,
        max_age=COOKIE_SECONDS,
        # As the browser sees it: a proxy, or who mounts the app, may have taken a part of the path off.
        path=request.script_root + settings.prefix or "/",
        httponly=True,
        samesite="Lax",
        secure=request.is_secure if settings.secure_cookie is None else settings.secure_cookie,
    )


def nonce() -> str:
    """For the scripts and styles of this answer: made where it is first asked for.

    The app itself may refuse a request before the console has seen it.
    """
    if "allcores_nonce" not in flask.g:
        flask.g.allcores_nonce = secrets.token_urlsafe(16)
    found: str = flask.g.allcores_nonce
    return found


def harden(response: Response, nonce: str) -> None:
    """The headers that each answer of the console has."""
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")
    if response.status_code == 304:
        # A browser would take its nonce for the one of the page that it has.
        return
    headers.setdefault(
        "Content-Security-Policy",
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    )
