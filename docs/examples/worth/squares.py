"""Squares numbers, in a loop: a function that is over before it could be sent anywhere."""


def square(number):
    """The square."""
    return number * number


def main():
    squares = []
    for number in range(4_000_000):
        squares.append(square(number))
    print(f"{sum(squares)} in all")


if __name__ == "__main__":
    main()
