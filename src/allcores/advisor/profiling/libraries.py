"""What functions of libraries do besides returning something, as far as their names say so."""

from __future__ import annotations

import ast
import builtins

#: methods that change what they are called on
MUTATORS = frozenset(
    {
        "append", "extend", "add", "update", "insert", "pop", "popleft", "appendleft", "remove", "discard",
        "clear", "setdefault", "sort", "reverse", "write", "writelines", "writerow", "writerows", "put", "send",
        "sendall", "execute", "executemany", "commit", "seek", "read", "readline", "flush", "shuffle",
        "popitem", "extendleft", "move_to_end", "put_nowait", "get_nowait", "fill", "readlines", "readinto",
        "recv", "truncate", "intersection_update", "difference_update", "symmetric_difference_update",
        "__next__", "__setitem__", "__delitem__", "__iadd__", "fetchone", "fetchmany", "frombytes", "insort",
        "setflags",
    }
)  # fmt: skip
#: methods by which a program tells what it does, in this order
TELLING = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log", "advance"})
#: functions that change what they are given first, by name
OF_FIRST = frozenset(
    {
        "heappush", "heappop", "heapify", "heapreplace", "heappushpop", "insort", "insort_left", "insort_right",
        "setitem", "delitem", "iadd", "iconcat", "copyto", "place", "putmask", "put_along_axis",
        "fill_diagonal", "setattr", "delattr", "shuffle",
    }
)  # fmt: skip
#: functions with effects outside of the process' memory, or on hidden state
EFFECTS = {
    "print": "prints", "pprint": "prints", "pp": "prints", "echo": "prints", "secho": "prints",
    "print_exc": "prints", "print_exception": "prints", "print_stack": "prints", "print_json": "prints",
    "input": "reads standard input", "exit": "ends the program", "quit": "ends the program",
    "next": "takes items from an iterator", "anext": "takes items from an iterator", "setattr": "changes an object",
    "delattr": "changes an object", "exec": "runs text", "eval": "runs text", "breakpoint": "stops",
    "locals": "looks for names by their text", "globals": "looks for names by their text",
}  # fmt: skip
#: what ends the whole program, and in a worker that alone
_ENDS = frozenset({"sys.exit", "os._exit", "os.abort", "os.kill", "os.execv", "os.execvp", "signal.raise_signal"})
_PROCESS_WIDE = frozenset(
    {"os.chdir", "os.umask", "os.putenv", "os.unsetenv", "sys.setrecursionlimit", "locale.setlocale", "signal.signal"}
)
_FRAMES = frozenset({"sys._getframe", "inspect.currentframe", "inspect.stack", "sys.exc_info"})
#: exceptions that say that something ends, and are no failure
ENDING = frozenset({"SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration"})
RANDOM = frozenset(
    {
        "random", "randint", "randrange", "choice", "choices", "shuffle", "gauss", "uniform", "sample", "rand",
        "randn", "normal", "permutation", "normalvariate", "betavariate", "expovariate", "integers", "poisson",
        "binomial", "exponential", "standard_normal", "random_sample", "getrandbits", "randbytes", "triangular",
        "gammavariate", "lognormvariate", "paretovariate", "vonmisesvariate", "weibullvariate",
        "binomialvariate", "lognormal", "multivariate_normal", "dirichlet", "multinomial", "geometric",
        "laplace", "randperm", "permuted", "standard_gamma", "standard_exponential", "random_integers",
        "randint_like", "rand_like", "randn_like",
    }
)  # fmt: skip
RANDOM_MODULES = ("random", "numpy.random")
#: of those, what draws nothing: generators of their own
OWN_GENERATORS = frozenset(
    {"Random", "SystemRandom", "default_rng", "RandomState", "Generator", "SeedSequence", "PCG64"}
)
DRAWS = "it draws from one stream of random numbers, whose order would change"
#: how names of methods begin that write files, and so change nothing in memory
WRITING = ("save", "to_", "write", "export", "dump", "close", "unlink", "mkdir", "rename", "touch")


def dotted(node: ast.expr) -> str:
    """An attribute of a name with dots, as `os.path.join`; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def effect_of_module(name: str) -> str | None:
    """What a function does to the process, by its full name (`sys.exit`); None for nothing."""
    module, _, last = name.rpartition(".")
    if name in _ENDS:
        return "it ends the program"
    if name in _PROCESS_WIDE:
        return f"it calls {name}, which concerns the whole process"
    if name in _FRAMES:
        return "it looks at the functions that call it"
    if module in RANDOM_MODULES and last not in OWN_GENERATORS:
        return DRAWS
    if module in ("pprint", "traceback", "click", "typer", "rich") and last in EFFECTS:
        return f"it {EFFECTS[last]}"
    return None


def called_name(call: ast.Call) -> str:
    """The last name of what is called; empty if it has none."""
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def of_first(call: ast.Call) -> ast.expr | None:
    """What a function changes that it is given first (`heappush(heap, x)`); None if it is none that does so."""
    return call.args[0] if call.args and called_name(call) in OF_FIRST else None


def changed_by_call(call: ast.Call) -> ast.expr | None:
    """What a call changes by the name of its method, or function; None if it is none that does so."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS:
        return call.func.value
    return of_first(call)


def tells(call: ast.Call) -> bool:
    """Whether a call prints, logs or moves a bar on, and nothing else."""
    name = called_name(call)
    return EFFECTS.get(name) == "prints" or (isinstance(call.func, ast.Attribute) and name in TELLING)


def starts_writer(call: ast.Call, name: str) -> bool:
    """Whether a call, by its full name, starts a process that has the program's standard output."""
    if name in ("os.system", "os.spawnv", "os.spawnvp", "os.posix_spawn", "subprocess.call", "subprocess.check_call"):
        return not any(word.arg in ("stdout", None) for word in call.keywords)
    if name not in ("subprocess.run", "subprocess.Popen"):
        return False
    return not any(word.arg in ("stdout", "capture_output", None) for word in call.keywords)


def may_append(call: ast.Call) -> bool:
    """Whether a call opens a file at whose end it writes."""
    modes = [*call.args[:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(isinstance(each, ast.Constant) and each.value in ("a", "ab", "at", "a+", "ab+", "x+a") for each in modes)


def is_builtin(name: str) -> bool:
    """Whether it is a name of Python's own."""
    return hasattr(builtins, name)
