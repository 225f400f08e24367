"""What `multiprocessing` shares between processes works in workers, as it does in those of ProcessPoolExecutor."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts

METHODS = ["template", "fork", "spawn"]

MANAGER = """
import functools, os, sys, warnings
import allcores
method = None if sys.argv[1] == "template" else sys.argv[1]
warnings.simplefilter("ignore")  # that this program has threads, and memory not shared

def put(mapping, n): mapping[n] = n

def add(lock, value, n):
    with lock: value.value += n

def give(value): return value

def size(mapping, n): return len(mapping)

def die(mapping, n):
    mapping["died"] = n
    os._exit(3)

def nested(mapping, n):
    with allcores.Pool(1, start_method=method) as pool:
        pool.map(functools.partial(put, mapping), [n])

with allcores.Pool(1, start_method=method) as pool:
    pool.map(abs, range(2))
    import multiprocessing  # after the worker has started
    with multiprocessing.Manager() as manager:
        mapping = manager.dict()
        pool.map(functools.partial(put, mapping), range(3))
        pool.map(functools.partial(add, lock := manager.Lock(), value := manager.Value("i", 0)), range(3))
        pool.map((queue := manager.Queue()).put, [5])
        print(dict(mapping), value.value, queue.get())
        (outcome,) = pool.outcomes(functools.partial(die, mapping), [1])
        pool.map(functools.partial(put, mapping), [4])
        pool.submit(nested, mapping, 5).result()
        print(outcome.kind, sorted(mapping, key=str), pool.submit(give, mapping).result()[4])
        with allcores.Pool(1, start_method=method, setup=give, setup_args=(mapping,)) as other:
            print(other.map(size, [1]))
        with allcores.Pool(1, start_method=method, preload=give, preload_args=(mapping,)) as other:
            print(other.map(size, [1]))
    multiprocessing.current_process().authkey = b"another"
    with multiprocessing.Manager() as manager:
        pool.map(functools.partial(put, mapping := manager.dict()), range(3))
        print(dict(mapping))
"""


@pytest.mark.parametrize("method", METHODS)
def test_proxies_of_managers(tmp_path: Path, method: str) -> None:
    """In items, functions, setup and preload, in a replaced worker, in a nested pool; also with another key later."""
    ending = scripts.run(MANAGER, tmp_path, method)
    assert (ending.err, ending.code) == ("", 0)
    assert ending.lines == [
        "{0: 0, 1: 1, 2: 2} 3 5",
        "Kind.WORKER_LOST [0, 1, 2, 4, 5, 'died'] 4",
        "[6]",
        "[6]",
        "{0: 0, 1: 1, 2: 2}",
    ]


SHARED = """
import functools, multiprocessing, os, sys, warnings
import allcores
from allcores import Limits
warnings.simplefilter("ignore")  # that this program has threads, and memory not shared
method = None if sys.argv[1] == "template" else sys.argv[1]
context = multiprocessing.get_context(sys.argv[2])

def give(*args): return args

def work(state, n):
    value, array, lock, rlock, some, bounded, condition, event, queue, simple, joinable, barrier, (_, end), raw = state
    for _ in range(100):
        with value: value.value += 1
    array[n] = n
    with lock, rlock, some, bounded: raw[0] += 1
    with condition: condition.notify_all()
    for each in (queue, simple, joinable): each.put(n)
    end.send(n)
    assert event.wait(120)
    barrier.wait(120)

def die(state, n):
    # A queue's thread that ends between its bytes and the release of its lock keeps that lock for ever.
    for each in (state[8], state[10]):
        each.close()
        each.join_thread()
    os._exit(3)

def seen(state, n): return state[2].acquire(timeout=0.01), state[7].is_set()

def free(state, n):
    with state[2]: return n

def nested(state, n):
    with allcores.Pool(1, start_method=method, setup=give, setup_args=state) as pool:
        return pool.map(free if n else seen, [1])

objects = (context.Value("i", 0), context.Array("d", 3), context.Lock(), context.RLock(), context.Semaphore(2),
    context.BoundedSemaphore(2), context.Condition(), context.Event(), context.Queue(), context.SimpleQueue(),
    context.JoinableQueue(), context.Barrier(2), context.Pipe(False), context.RawArray("i", 1))
value, array, lock, *_, event, queue, simple, joinable, _, (reader, _), raw = objects
event.set()
with allcores.Pool(2, start_method=method, setup=give, setup_args=objects) as pool:
    for total in (200, 400):
        pool.map(work, [1, 2], chunk=1)
        assert (value.value, list(array), raw[0]) == (total, [0, 1, 2], total // 100)
        for get in (queue.get, simple.get, joinable.get, reader.recv):
            assert sorted(get() for _ in range(2)) == [1, 2]
        # The second time it is done by workers that took the place of these.
        assert not any(outcome.ok for outcome in pool.outcomes(die, range(2)))
    lock.acquire()
    event.clear()
    assert pool.map(seen, [1]) == [(False, False)]
    assert pool.submit(nested, 0).result() == [(False, False)]
    lock.release()
    event.set()
    assert pool.submit(nested, 1).result() == [1]
    assert pool.map(free, [1]) == [1]
its_context = multiprocessing.get_context(method) if method else None
with allcores.Executor(1, initializer=give, initargs=objects, mp_context=its_context) as executor:
    assert executor.submit(abs, -1).result() == 1
with allcores.Pool(1, start_method=method, preload=give, preload_args=objects) as pool:
    assert pool.map(seen, [1]) == [(True, True)]
    lock.release()
with allcores.Pool(1, start_method=method, setup=give, setup_args=objects, limits=Limits(items_per_worker=1)) as pool:
    assert pool.map(free, range(3)) == [0, 1, 2]
print("fine")
"""


@pytest.mark.parametrize(
    ("method", "context"), [("template", "fork"), ("template", "spawn"), ("fork", "fork"), ("spawn", "fork")]
)
def test_objects_that_are_inherited(tmp_path: Path, method: str, context: str) -> None:
    """By setup, preload and initializer: in the first workers, in those that replace them, and in nested pools."""
    with scripts.running(["-c", SHARED, method, context], folder=tmp_path) as process:
        ending = scripts.finish(process)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


MEMORY = """
import functools, sys, warnings
import allcores
from allcores import Limits
warnings.simplefilter("ignore")
method = None if sys.argv[1] == "template" else sys.argv[1]

def fill(memory, n): memory.buf[n] = n + 1

def fill_named(name, n):
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(name)
    memory.buf[n] = n + 1
    memory.close()

def make(n):
    from multiprocessing.shared_memory import SharedMemory
    memory = SharedMemory(create=True, size=100)
    memory.buf[0] = 7
    return memory

def set_one(numbers, n): numbers[n] = n

def in_a_process(name, n):
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=fill_named, args=(name, n))
    process.start()
    process.join()

def give(value): return value

def first(memory, n): return memory.buf[0]

with allcores.Pool(1, start_method=method, limits=Limits(items_per_worker=1)) as pool:
    made = pool.submit(make, 1).result()  # before this program has a tracker
    assert made.buf[0] == 7
    from multiprocessing.shared_memory import SharedMemory, ShareableList
    memory, numbers = SharedMemory(create=True, size=100), ShareableList([9, 9])
    pool.map(functools.partial(fill, memory), [0])
    pool.map(functools.partial(fill_named, memory.name), [1])
    pool.submit(in_a_process, memory.name, 2).result()
    assert bytes(memory.buf[:3]) == bytes([1, 2, 3])
    pool.map(functools.partial(set_one, numbers), [0, 1])
    assert list(numbers) == [0, 1]
    for method_args in ({"setup": give, "setup_args": (memory,)}, {"preload": give, "preload_args": (memory,)}):
        with allcores.Pool(1, start_method=method, limits=Limits(items_per_worker=1), **method_args) as other:
            assert other.map(first, range(2)) == [1, 1]
for each in (memory, made, numbers.shm):
    SharedMemory(each.name).close()  # all of it is still there
    each.close()
    each.unlink()
print("fine")
"""


@pytest.mark.parametrize("method", METHODS)
def test_shared_memory(tmp_path: Path, method: str) -> None:
    """No worker's end removes it, whoever made it, and nothing warns of what is left."""
    ending = scripts.run(MEMORY, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("fine\n", "", 0)


POOL_INSIDE = """
import multiprocessing, sys
import allcores

def inside(x):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [x])

method = None if sys.argv[1] == "template" else sys.argv[1]
if __name__ == "__main__":
    with allcores.Pool(1, start_method=method) as pool:
        print(pool.map(inside, [-1, -2]))
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_multiprocessing_in_a_task_leaves_no_semaphore(tmp_path: Path, method: str) -> None:
    """The worker has another tracker, for what it starts, once some of them are made."""
    ending = scripts.run(POOL_INSIDE, tmp_path, method)
    assert (ending.out, ending.err, ending.code) == ("[[1], [2]]\n", "", 0)


REFUSED = """
import functools, multiprocessing, sys
import allcores
context = multiprocessing.get_context("fork")

def give(*args): return args

def put(state, n): state[0].put("x" * n)

def send(end): end.send(1)

def tell(call):
    try:
        call()
    except allcores.NotPicklable as error:
        print(error)

with allcores.Pool(1) as pool:
    tell(lambda: pool.map(functools.partial(give, context.Lock()), [1]))
    tell(lambda: pool.map(give, [context.Value("i")]))
    reader, writer = context.Pipe(False)
    tell(lambda: pool.map(functools.partial(give, writer), [1]))
    pool.map(send, [writer, writer])
    print(reader.recv(), reader.recv())
queue = context.Queue()
process = context.Process(target=queue.get)
process.start()
tell(lambda: allcores.Pool(1, setup=give, setup_args=(queue,)))
queue.put(1)
process.join()
with allcores.Pool(1, setup=give, setup_args=(queue,), limits=allcores.Limits(items_per_worker=1)) as pool:
    waiting = pool.submit(put, 200_000)
    print(len(queue.get()), waiting.result())
"""


def test_what_cannot_be_shared_says_what_to_do(tmp_path: Path) -> None:
    """In items and functions; what a process has that was forked before. What a task has put arrives."""
    ending = scripts.run(REFUSED, tmp_path)
    assert (ending.err, ending.code) == ("", 0)
    function, item, connection, sent, shared, put = ending.lines
    assert all("give it to setup= by setup_args=" in each for each in (function, item, connection))
    assert "give.args[0] is a multiprocessing.connection.Connection" in connection
    assert "setup[1][0] is a multiprocessing.queues.Queue" in shared and "get_context('spawn')" in shared
    assert (sent, put) == ("1 1", "200000 None")


FAILING = """
import multiprocessing, sys, warnings
import allcores
warnings.simplefilter("ignore")  # that this program has threads
method = None if sys.argv[1] == "template" else sys.argv[1]

def fill(queue, count):
    for number in range(count): queue.put(str(number) * 20)
    raise ValueError("no")

def work(*args): pass

for step, count in (("setup", 300), ("preload", 300), ("setup", 100_000)):
    queue = multiprocessing.get_context(method or "spawn").Queue()
    with allcores.Pool(1, start_method=method, **{step: fill, step + "_args": (queue, count)}) as pool:
        try:
            pool.map(work, [1])
        except allcores.SetupError as error:
            # One that holds more than a pipe, of which nobody reads, does not keep the failure back.
            if count < 1000:
                print([queue.get(timeout=0.001) for _ in range(count)][-1], "no" in str(error))
            else:
                print("told")
    queue.cancel_join_thread()

def last(queue): queue.put("last"); raise ValueError("no")

queue = multiprocessing.get_context(method or "spawn").Queue()
with allcores.Pool(1, start_method=method, setup=lambda queue: queue, setup_args=(queue,), teardown=last) as pool:
    pool.map(lambda queue, n: None, [1])
print(queue.get(timeout=60))
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_a_setup_puts_into_a_queue_before_it_fails_is_there(tmp_path: Path, method: str) -> None:
    """Log records, for one; also that of a teardown."""
    ending = scripts.run(FAILING, tmp_path, method)
    assert ending.lines == ["299" * 20 + " True"] * 2 + ["told", "last"], ending.err
    assert ending.code == 0


NUMBERS_OF_NUMPY = """
import concurrent.futures, multiprocessing, numpy
import allcores
from allcores.compat import Pool

two = numpy.int64(2)

if __name__ == "__main__":
    for kind in (multiprocessing.Pool, Pool):
        with kind(two) as pool:
            print(pool._processes, pool.map(abs, range(3), chunksize=two), pool.starmap(pow, [(2, 3)], two),
                  list(pool.imap(abs, range(3), two)), sorted(pool.imap_unordered(abs, range(3), two)),
                  pool.map_async(abs, range(3), two).get(120))
        with kind(1, maxtasksperchild=1) as pool:
            print(pool.map(abs, range(3), chunksize=two), list(pool.imap(abs, range(3), two)))
    for kind in (concurrent.futures.ProcessPoolExecutor, allcores.Executor):
        with kind(two) as executor:
            print(executor._max_workers, list(executor.map(abs, range(3), chunksize=two)))
"""


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    """What a program counts with NumPy, the originals take; so do the drop-ins for them."""
    pytest.importorskip("numpy")
    done = scripts.run(NUMBERS_OF_NUMPY, tmp_path)
    assert (done.code, done.err) == (0, "")
    pool, chunks, ours, our_chunks, executor, our_executor = done.lines
    assert (ours, our_chunks, our_executor) == (pool, chunks, executor)
