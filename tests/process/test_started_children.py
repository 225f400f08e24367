"""Pools in processes that `multiprocessing` has started anew: there the script is a module of another name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process.scripts import run

#: it asks all that travels by value: functions, classes, instances, exceptions, globals of a setup function
SCRIPT = """
import multiprocessing, sys, warnings
from pathlib import Path
import allcores
from allcores.compat import Pool as DropIn

class Kept:
    def __init__(self, value):
        self.value = value

class Wrong(Exception):
    pass

def double(number):
    return number * 2

def keep(number):
    return Kept(double(number))

def value(kept):
    return kept.value

def fail(number):
    raise Wrong(number)

def begin():
    global begun
    begun = 5

def begun_there(_):
    return begun

def noted(number):
    with open("calls", "a") as file:
        file.write("x")
    return Kept(number)

def ask(call):
    try:
        call(3)
    except Wrong as error:
        return type(error) is Wrong

def work(method):
    warnings.simplefilter("ignore", RuntimeWarning)
    with allcores.Pool(1, start_method=method, setup=begin) as pool:
        print(pool.map(double, [1, 2]), pool.map(lambda each: double(each), [1]), pool.map(begun_there, [0]))
        print([type(each) is Kept for each in pool.map(keep, [1, 2])], pool.map(value, [Kept(7)]))
        print(ask(lambda number: pool.map(fail, [number])))
        print(type(pool.map(noted, [1], cache="kept")[0]) is Kept)
    with allcores.Executor(1, mp_context=multiprocessing.get_context(method)) as executor:
        print(executor.submit(double, 2).result(), type(executor.submit(keep, 1).result()) is Kept)
    with DropIn(1, begin, context=multiprocessing.get_context(method)) as pool:
        print(pool.map(double, [1]), type(pool.apply(keep, (1,))) is Kept, pool.apply(begun_there, (0,)))
        print(ask(lambda number: pool.apply(fail, (number,))))

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(sys.argv[2],))
    child.start()
    child.join()
    print(child.exitcode, type(allcores.map(noted, [1], workers=1, cache="kept")[0]) is Kept, Path("calls").read_text())
"""
TOLD = """[2, 4] [2] [5]
[True, True] [7]
True
True
4 True
[2] True 5
True
0 True x
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("started", ["spawn", "forkserver"])
def test_a_pool_in_a_child_takes_what_the_script_defines(tmp_path: Path, started: str, method: str) -> None:
    """As in the program itself; what is kept in a cache is the same for both."""
    ended = run(SCRIPT, tmp_path, started, method)
    assert (ended.code, ended.out) == (0, TOLD), ended.err
