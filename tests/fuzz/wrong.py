"""What a target raises when the driver does what it must not."""


class WrongError(AssertionError):
    """The driver believed, refused or kept what it must not."""


def need(held: bool, *what: object) -> None:
    if not held:
        raise WrongError(*what)
