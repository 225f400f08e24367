"""The thread that tells a call of joblib's `Parallel` what its batches came to."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

pytest.importorskip("joblib")

from allcores.adapters.joblib_calls import Calls


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_callback_that_raises_ends_none_of_the_others(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """joblib prints its progress in it, to a stream that may be closed; so far the call waited for ever."""
    said: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: said.append(args.exc_type))
    calls, told = Calls(None), threading.Event()

    def fail(_: object) -> None:
        raise kind("closed")

    futures: list[Future[Any]] = [Future(), Future()]
    calls.begin()
    calls.tell(fail, futures[0])
    calls.tell(lambda _: told.set(), futures[1])
    for future in futures:
        future.set_result(None)
    assert told.wait(60)
    calls.wait_over()
    calls.close()
    calls._thread.join(60)
    assert said == [kind]
