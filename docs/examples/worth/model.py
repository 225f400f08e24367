"""Loads a model of 20 MB, then predicts with it, in a loop."""

import functools
from array import array


@functools.cache
def model():
    """Stands for a file of weights: loaded when it is needed first."""
    return array("d", range(2_500_000))


def predict(x):
    """The model's answer for `x`."""
    return sum(model()[x % 1000 :: 1000])


def main():
    total = sum([predict(x) for x in range(100_000)])
    print(f"predictions: {total:.0f}")


if __name__ == "__main__":
    main()
