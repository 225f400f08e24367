"""Flask: `flask --app flask_app run`, or `gunicorn --workers 2 flask_app:app`, also with `--preload`."""

from flask import Flask
from heavy import count_primes

import allcores

app = Flask(__name__)
# Each server process has workers of its own, also one that gunicorn forks after it has loaded this file (--preload).
# The cores are one machine's: two server processes with half of them each, say, are 2 x Pool(cores / 2).
pool = allcores.Pool(2)


@app.get("/primes/<int:limit>")
def primes(limit: int) -> tuple[dict[str, object], int]:
    """A request waits for its own call, for two seconds at most; the others are not held up by it."""
    try:
        return {"limit": limit, "primes": pool.call(count_primes, [limit], timeout=2).result()}, 200
    except allcores.TaskTimeout:
        return {"limit": limit, "error": "this takes longer than 2 s"}, 503
