"""FastAPI: `uvicorn fastapi_app:app`, also with `--workers 2`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from heavy import count_primes

import allcores


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The pool lives as long as the server process: it is ready before the first request, and ended with it."""
    with allcores.Pool(2) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/primes/{limit}")
async def primes(limit: int) -> dict[str, int]:
    """The event loop is free while a worker counts. Cancelling this task would end the worker's call, too."""
    call = app.state.pool.call(count_primes, [limit], timeout=2)
    try:
        return {"limit": limit, "primes": await asyncio.wrap_future(call)}
    except allcores.TaskTimeout:
        raise HTTPException(503, "this takes longer than 2 s") from None


@app.post("/primes")
async def many(limits: list[int]) -> StreamingResponse:
    """A line of JSON for each limit, sent when it is counted: the answer never stands in memory as a whole."""

    async def lines() -> AsyncIterator[str]:
        # Here `limits` are few. For many a day's worth, take them from an async iterable, too.
        async for count in app.state.pool.aimap(count_primes, limits):
            yield json.dumps({"primes": count}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
