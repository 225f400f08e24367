"""Programs whose loop that is worth a map is known: each has one, marked `# here`, and others that are not.

Those that the benchmark of the profiler has, too, are smaller here. Each still computes so long that its gain is far
above what pays, and that its loop has some dozens of samples.
"""

from __future__ import annotations

from benchmarks.advice.programs import WORK, program

APPEND = f"""
{WORK}

def smooth(values):
    previous = 0.0
    smoothed = []
    for value in values:
        previous = 0.9 * previous + 0.1 * value
        smoothed.append(previous)
    return smoothed

def main():
    smoothed = smooth(list(range(200_000)))
    results = []
    for n in range(40):  # here
        size = 200_000 + n
        if n % 10 == 3:
            continue
        results.append(work(size))
    print(len(smoothed), sum(results))

if __name__ == "__main__":
    main()
"""

MAP = f"""
{WORK}

sizes = [200_000 + n for n in range(36)]
print(sum(map(work, sizes)))  # here
"""

GENERATOR = f"""
{WORK}

def produce(count):
    for n in range(count):
        yield 200_000 + n

print(sum(work(n) for n in produce(36)))  # here
"""

TOTAL = f"""
{WORK}

def prepare():
    values = [1]
    for i in range(200_000):
        values.append((values[-1] * 31 + 7) % 1_000_003)
    return values

def main():
    values = prepare()
    total = 0.0
    count = 0
    for n in values[:36]:  # here
        total += work(200_000 + n % 5) / 3
        count += 1
    print(total, count)

main()
"""

#: name -> (source, pattern)
KNOWN = {
    "comprehension": (program("list comprehension", 36), "processes"),
    "append": (APPEND, "processes"),
    "nested": (program("nested loops", 480), "processes"),
    "map": (MAP, "processes"),
    "frame": (program("a frame's apply", 500), "processes"),
    "method": (program("a method", 36), "processes"),
    "generator": (GENERATOR, "processes"),
    "files": (program("regular expressions over files", 18), "processes"),
    "waiting": (program("waiting for answers", 40), "threads"),
    "total": (TOTAL, "processes"),
}
