"""Libraries, functions and types of ctypes travel, as the parts of a function that refers to them."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allcores.transport.pickling import dumps, loads

NUMBER = ctypes.c_double


def there(function: Callable[[], Any]) -> Any:
    """What a copy of a function returns that came by its bytes."""
    return loads(dumps(function))()


@pytest.fixture
def library() -> ctypes.CDLL:
    """A library whose functions have types of their own."""
    found = ctypes.CDLL("libm.so.6", use_errno=True)
    found.cos.restype, found.cos.argtypes = NUMBER, [NUMBER]
    return found


def test_a_library_has_its_functions_with_their_types(library: ctypes.CDLL) -> None:
    """Without them the argument would be refused, and the result an int. What was not typed is not, either."""
    copy = there(lambda: library)
    assert copy is not library
    assert copy.cos(0.0) == 1.0
    assert copy._FuncPtr._flags_ == library._FuncPtr._flags_
    assert copy.sin.restype is ctypes.c_int


def test_a_function_is_that_of_its_library(library: ctypes.CDLL) -> None:
    """The one that is the library's attribute, and another with types of its own."""
    cos: Any = library.cos
    other: Any = library["cos"]
    other.restype, other.argtypes = ctypes.c_float, [NUMBER]
    other.errcheck = lambda result, _, __: ("checked", result)
    copies = there(lambda: (library, cos, other))
    assert copies[0].cos is copies[1] is not copies[2]
    assert copies[1](0.0) == 1.0
    assert copies[2].restype is ctypes.c_float
    assert copies[2](0.0)[0] == "checked"


def test_a_path_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library beside the script is opened by a path that says nothing in a worker that has changed its folder."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    source = next(Path(line.split()[-1]) for line in mapped if "/libm" in line)
    (tmp_path / "mine.so").write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    data = dumps(ctypes.CDLL("./mine.so"))
    monkeypatch.chdir("/")
    assert loads(data)._name == str(tmp_path / "mine.so")


def test_the_program_itself_is_a_library() -> None:
    """Its name is None."""
    program = ctypes.CDLL(None)
    assert there(lambda: program.abs(-3)) == 3


def test_types_without_a_name_are_made_of_what_they_are_of() -> None:
    """Each is the very type that ctypes has here for it, whatever its order of bytes."""
    kinds: list[Any] = [
        NUMBER * 4,
        (NUMBER * 4) * 2,
        ctypes.POINTER(NUMBER * 4),
        ctypes.POINTER(ctypes.POINTER(ctypes.c_int)),
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int)),
        ctypes.c_uint16.__ctype_be__,
        ctypes.c_uint16.__ctype_le__,
    ]
    assert there(lambda: kinds) == kinds
    assert loads(dumps(ctypes.PYFUNCTYPE(ctypes.c_int)))._flags_ == ctypes.PYFUNCTYPE(ctypes.c_int)._flags_


def test_values_travel_with_their_types() -> None:
    """As items and results do, too."""
    values = (NUMBER * 3)(1, 2, 3)
    assert list(loads(dumps(values))) == [1, 2, 3]
    assert loads(dumps([values, values]))[0]._type_ is NUMBER


SCRIPT = """
import ctypes

class Node(ctypes.Structure):
    pass

Node._fields_ = [("value", ctypes.c_int), ("next", ctypes.POINTER(Node)), ("row", ctypes.c_double * 3)]

class Packed(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("letter", ctypes.c_char), ("number", ctypes.c_int)]

    def size(self):
        return ctypes.sizeof(self)

class Wider(Packed):
    _fields_ = [("more", ctypes.c_char)]

class Swapped(ctypes.BigEndianStructure):
    _fields_ = [("number", ctypes.c_uint16)]

class Either(ctypes.Union):
    _anonymous_ = ("packed",)
    _fields_ = [("packed", Packed), ("text", ctypes.c_char * 5)]

class Number(ctypes.c_int):
    def twice(self):
        return 2 * self.value

class Three(ctypes.Array):
    _type_, _length_ = ctypes.c_int, 3

    def total(self):
        return sum(self)

def work(number):
    first = Node(number, None, (1, 2, 3))
    second = Node(0, ctypes.pointer(first))
    assert second.next.contents.row[2] == 3
    return (
        second.next.contents.value, Packed(b"a", 1).size(), ctypes.sizeof(Wider), bytes(Swapped(258)),
        Either(text=b"abcde").letter, Number(4).twice(), Three(1, 2, 3).total(),
    )

def make(number):
    return Packed(b"x", number)

def read(packed):
    return packed.number

if __name__ == "__main__":
    import allcores
    with allcores.Pool(2, start_method=START) as pool:
        print(pool.map(work, [5, 6])[0])
        made = pool.map(make, [7, 8])
        print([type(each) is Packed for each in made], pool.map(read, made), pool.map(read, [Wider(b"x", 9)]))
        Packed.size = lambda self: "another"
        print(pool.map(lambda _: Packed().size(), [1]))
"""


@pytest.mark.parametrize("start", ["'template'", "'spawn'"])
def test_structures_of_a_script_are_what_they_were(tmp_path: Path, start: str) -> None:
    """In workers, and on the way back; what the class has got since then, too."""
    (tmp_path / "script.py").write_text(SCRIPT.replace("START", "None" if "template" in start else start))
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == [
        r"(5, 5, 6, b'\x01\x02', b'a', 8, 6)",
        "[True, True] [7, 8] [9]",
        "['another']",
    ], done.stderr


def test_a_callback_is_refused() -> None:
    """What it calls cannot be asked of it."""
    callback = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)
    with pytest.raises(ValueError, match="pointers cannot be pickled"):
        dumps(callback)


def test_other_objects_of_compiled_code_that_scripts_have_at_their_top() -> None:
    """A format of `struct`, and the system's random numbers."""
    record, numbers = struct.Struct("<ih"), random.SystemRandom()
    assert there(lambda: record.pack(1, 2)) == record.pack(1, 2)
    assert 0 <= there(lambda: numbers.random()) < 1
