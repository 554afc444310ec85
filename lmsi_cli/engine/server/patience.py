"""How long to wait after a failure, and when to stop trying: pure arithmetic and one counter.

Knows clocks only as numbers that it is given. Waits double from half a second to half a minute,
each cut by chance so that many callers do not come back together; what the server asks for by
``Retry-After`` is a lower bound for all of them:

    asked_wait({"retry-after": "20"}) -> 20.0            # seconds
    wait_after(3, chance=0.5)         -> 1.5             # half a second, doubled twice, times 3/4
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

FIRST, LONGEST = 0.5, 30.0  # seconds
MOST_ASKED = 900.0  # a server that wants a longer rest is better asked another day


class Fault(NamedTuple):
    """A failure that may pass; ``after``: seconds that the server asks to be left alone.

    ``astray``: it may as well be that the address is wrong, so a first request ends with it.
    """

    why: str
    after: float | None = None
    astray: bool = False


def wait_after(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row (from 1 on); ``chance`` is from 0 to 1."""
    whole = min(FIRST * 2.0 ** min(failures - 1, 30), LONGEST)
    return whole * (0.5 + chance / 2)


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait, or None; never negative.

    A date is compared with the server's own clock where it tells it: ours may be wrong.
    """
    told = headers.get("retry-after")
    if told is None:
        return None
    try:
        return max(0.0, float(told))
    except ValueError:
        return _until(told, headers.get("date"))


def _until(when: str, now: str | None) -> float | None:
    try:
        then = parsedate_to_datetime(when)
        return max(0.0, (then - parsedate_to_datetime(now or when)).total_seconds())
    except (ValueError, TypeError):
        return None


class Circuit:
    """Counts failures in a row over all requests; one success and it begins anew.

    Requests that were under way together fail together when a server goes away. They count as one
    failure, or a restart that takes a second would open the circuit at high concurrency.
    """

    def __init__(self, bearable: int) -> None:
        self.bearable, self.in_a_row, self._last = bearable, 0, float("-inf")

    def well(self) -> None:
        """A request was answered."""
        self.in_a_row = 0

    def failed(self, begun: float, now: float) -> bool:
        """A request begun at one time failed at another; say whether that is one too many."""
        if begun >= self._last:
            self.in_a_row, self._last = self.in_a_row + 1, now
        return self.in_a_row > self.bearable
