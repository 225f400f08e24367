"""Counts the primes below several limits, each limit on a core of its own."""

import allcores


def count_primes(limit: int) -> int:
    """How many primes are smaller than `limit`, by trial division: slow on purpose."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


limits = [100_000, 120_000, 140_000, 160_000]
for limit, primes in zip(limits, allcores.map(count_primes, limits), strict=True):
    print(f"{primes} primes below {limit}")
