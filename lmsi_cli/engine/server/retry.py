"""How long to wait after a failure, and when to stop trying: arithmetic and one counter.

Knows clocks only as numbers that it is given. Waits double from half a second to half a minute,
each shortened by chance so that many callers do not come back together:

    retry_after({"retry-after": "20"}) -> 20.0           # seconds
    backoff(3, chance=0.5)             -> 1.5            # half a second, doubled twice, times 3/4
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 0.5, 30.0  # seconds


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row (from 1 on); ``chance`` is from 0 to 1."""
    return min(FIRST * 2.0 ** min(failures - 1, 30), LONGEST) * (0.5 + chance / 2)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a reply asks to wait, or 0.

    A date is compared with the server's own clock where it tells it: ours may be wrong.
    """
    told = headers.get("retry-after", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        until, now = (parsedate_to_datetime(t) for t in (told, headers.get("date", told)))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


class Circuit:
    """Counts failures in a row over all requests; one success and it begins anew.

    Requests that were under way together fail together when a server goes away. They count as one
    failure, or a restart that takes a second would open the circuit at high concurrency.
    """

    def __init__(self, bearable: int) -> None:
        self.bearable, self.in_a_row, self._last = bearable, 0, float("-inf")

    def succeeded(self) -> None:
        """A request was answered."""
        self.in_a_row = 0

    def failed(self, begun: float, now: float) -> bool:
        """A request begun at one time failed at another; say whether that is one too many."""
        if begun >= self._last:
            self.in_a_row, self._last = self.in_a_row + 1, now
        return self.in_a_row > self.bearable
