"""Counts the primes below several limits, with the standard library alone."""

import multiprocessing


def count_primes(limit):
    """How many primes are smaller than `limit`, by trial division: slow on purpose."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


if __name__ == "__main__":
    limits = [100_000, 120_000, 140_000, 160_000]
    with multiprocessing.Pool(processes=multiprocessing.cpu_count()) as pool:
        for limit, primes in zip(limits, pool.map(count_primes, limits), strict=True):
            print(f"{primes} primes below {limit}")
