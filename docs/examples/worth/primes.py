"""Counts the primes below many limits, in a loop."""


def count_primes(limit):
    """How many primes are smaller than `limit`, by trial division: slow on purpose."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


def main():
    counts = []
    for limit in range(2_000, 9_000, 10):
        counts.append(count_primes(limit))
    print(f"{sum(counts)} primes counted")


if __name__ == "__main__":
    main()
