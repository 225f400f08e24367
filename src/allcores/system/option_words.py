"""Words that are no options here, and what to write instead. Loaded once one of them is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allcores.errors import UnknownOption

#: of the words below, those that mean the same
WORDS_FOR_WORKERS = (
    "n_jobs", "max_workers", "processes", "num_workers", "n_workers", "num_processes", "nprocs", "njobs", "num_cpus",
    "concurrency", "parallelism", "num_proc", "nproc", "n_procs", "n_cpus", "cpus", "jobs", "cores", "pool_size",
)  # fmt: skip

#: options of other libraries, and what they are here
OTHER_WORDS = {
    **dict.fromkeys(WORDS_FOR_WORKERS, "the word is workers: Pool(workers=n), or allcores.map(..., workers=n)"),
    **dict.fromkeys(
        ("chunksize", "chunk_size", "miniters_per_chunk", "n_splits"),
        "the word is chunk, an option of each map: items that travel together; without it chunks size themselves",
    ),
    "batch_size": (
        "the words are batch where the function takes lists of items, and chunk for items that travel together, "
        "options of each map"
    ),
    **dict.fromkeys(
        ("initializer", "worker_init", "init"), "the word is setup: allcores.Pool(setup=f), run once in each worker"
    ),
    **dict.fromkeys(
        ("threads", "n_threads", "num_threads"),
        'the words are workers and backend: allcores.Pool(workers=n, backend="threads")',
    ),
    "workers": (
        "the way is allcores.Pool(workers=n), or workers=n with the functions of the module (allcores.map) and where a "
        "pipeline is run"
    ),
    "initargs": "the word is setup_args: allcores.Pool(setup=f, setup_args=(...))",
    **dict.fromkeys(("worker_exit", "finalizer"), "the word is teardown: allcores.Pool(teardown=f)"),
    **dict.fromkeys(("mp_context", "context"), 'the word is start_method: allcores.Pool(start_method="spawn")'),
    **dict.fromkeys(
        ("maxtasksperchild", "max_tasks_per_child", "worker_lifespan", "max_tasks"),
        "the word is items_per_worker: allcores.Pool(limits=allcores.Limits(items_per_worker=n))",
    ),
    **dict.fromkeys(
        ("max_tasks_active", "pre_dispatch", "buffersize", "prefetch"),
        "the word is items_in_flight: allcores.Pool(limits=allcores.Limits(items_in_flight=n))",
    ),
    **dict.fromkeys(
        ("prefer", "require"), 'the word is backend: allcores.Pool(backend="threads"), "processes" or "serial"'
    ),
    **dict.fromkeys(
        ("verbose", "desc", "progress_bar", "show_progress", "tqdm_class"),
        "the word is progress: map(..., progress=True) or a text, or Pool(observers=[allcores.ProgressBar()])",
    ),
    **dict.fromkeys(
        ("total", "iterable_len", "length"), "nothing is needed: what has a length is asked for it"
    ),
    **dict.fromkeys(("task_timeout", "time_limit"), "the word is timeout, an option of each map: seconds"),
    "worker_init_timeout": "the word is setup_s: allcores.Pool(limits=allcores.Limits(setup_s=...))",
    "max_retries": "the word is retries, an option of each map",
    "return_as": "the way is another method: map gives a list, imap a stream, imap_unordered one as items are finished",
    **dict.fromkeys(
        ("mmap_mode", "max_nbytes", "temp_folder", "shared_objects"),
        "nothing is needed: large arrays travel in shared memory; allcores.Pool.share(array) shares one for good",
    ),
    "return_exceptions": "the way is outcomes(), which never raises for an item",
    "error_callback": "the way is outcomes(), which never raises for an item",
    "callback": "the way is a loop over imap(), or a future's add_done_callback()",
    "keep_alive": "nothing is needed: workers stay until the pool is closed",
    "use_worker_state": "nothing is needed: what setup returns is the function's first argument",
}  # fmt: skip

#: words for the same, of which a function has one: Executor has max_workers
_SAME = (
    ("workers", *WORDS_FOR_WORKERS),
    ("chunk", "chunksize", "chunk_size"),
    ("setup", "initializer", "worker_init", "init"),
    ("setup_args", "initargs"),
    ("start_method", "mp_context", "context"),
    ("items_per_worker", "maxtasksperchild", "max_tasks_per_child", "worker_lifespan", "max_tasks"),
    ("items_in_flight", "max_tasks_active", "pre_dispatch", "buffersize", "prefetch"),
    ("max_queued", "maxsize", "max_pending_calls", "max_concurrent_queries"),
    ("concurrent", "max_concurrency", "concurrency"),
    ("timeout", "task_timeout", "time_limit", "soft_time_limit", "job_timeout"),
    ("restart", "max_restarts"),
    ("times", "max_retries", "retries", "tries", "attempts", "max_attempts", "total", "stop"),
    ("retries", "max_retries", "tries", "attempts", "max_attempts"),
    ("wait_s", "delay", "backoff", "wait", "wait_fixed", "default_retry_delay", "retry_delay"),
    ("backoff", "delay", "retry_backoff", "default_retry_delay", "retry_delay"),
    ("factor", "backoff_factor", "multiplier", "exp_base"),
    ("wait_max_s", "max_delay", "backoff_max", "max_value", "retry_backoff_max"),
    ("on", "exceptions", "autoretry_for", "retry_on", "expected_exception"),
    ("setup_s", "worker_init_timeout"),
    ("memory_per_worker", "memory_limit", "max_memory", "max_memory_per_child"),
)


def of_other_libraries(word: str, options: tuple[str, ...]) -> str:
    """What the word of another library is called here; empty if it is none."""
    for same in _SAME:
        mine = next((each for each in same if each in options), None)
        if mine is not None and word in same:
            return f"the word is {mine}"
    return OTHER_WORDS.get(word, "")


def close_to(word: str, options: tuple[str, ...]) -> str:
    """The option that was meant, if one is spelt like it; empty if none is."""
    from difflib import get_close_matches

    close = get_close_matches(word, options, 1, 0.6)
    return f"did you mean {close[0]}" if close else ""


def unknown(title: str, word: str, options: tuple[str, ...]) -> UnknownOption:
    """The error for a keyword that is no option.

    Args:
        title: What was called.
        word: The keyword.
        options: Those that there are.
    """
    there = f"options are {', '.join(options)}" if options else "it has none"
    return UnknownOption(
        f"{title}() has no option {word!r}: {of_other_libraries(word, options) or close_to(word, options) or there}."
    )


def refuse(function: Callable[..., Any], named: dict[str, Any]) -> None:
    """Keyword arguments of which one is no option of a function.

    Raises:
        UnknownOption: For the first of those.
    """
    import inspect

    parameters = [
        each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_POSITIONAL
    ]
    words = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    options = tuple(
        each.name for each in parameters if each.kind is each.KEYWORD_ONLY or each.default is not each.empty
    )
    owner, _, name = function.__qualname__.rpartition(".")
    title = owner.rpartition(".")[2] if name == "__init__" else name
    raise unknown(title, next(word for word in named if word not in words), options)
