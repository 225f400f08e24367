"""Heavy work behind a page: a function of its own module, which workers import without the web framework."""


def count_primes(limit: int) -> int:
    """How many primes are smaller than `limit`, by trial division: slow on purpose."""
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))
