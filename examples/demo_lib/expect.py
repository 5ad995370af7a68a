"""How a check says what it wants, and how it enters its file's list."""

import time

POLL = 0.05  # seconds
SHOWN = 300  # characters of a wrong value that are printed


class Failed(AssertionError):
    """A wrong answer; the text says what was wanted and what came."""


def expect(actual, wanted, what):
    """Raises Failed unless both are equal."""
    if actual != wanted:
        raise Failed(f"{what}: {_short(actual)} instead of {_short(wanted)}")


def expect_in(part, whole, what):
    """Raises Failed unless `whole` contains `part`."""
    if part not in whole:
        raise Failed(f"{what}: no {_short(part)} in {_short(whole)}")


def eventually(value, what, deadline=5):
    """Returns the first true `value()`. Raises Failed when none comes within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not (found := value()):
        if time.monotonic() > end:
            raise Failed(f"{what}: nothing within {deadline} s")
        time.sleep(POLL)
    return found


def check_list():
    """A list and the decorator that appends checks (functions of the site) to it."""
    checks = []

    def check(name, differs_from_stock=False):
        def register(function):
            function.name, function.differs_from_stock = name, differs_from_stock
            checks.append(function)
            return function

        return register

    return checks, check


def _short(value):
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
