"""Orders on their way into an engine: questions become requests just before they are drawn.

Knows orders, prompts and lengths; nothing of Ray or of answers. One order in the queue is a few
questions; only the next one's requests exist. What is open of an order is counted here:

    {4: {"q7", "q8"}}     order 4 has two questions left; when none is, it is over
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator

from lmsi_cli.cluster.wire import Asked, Order, Refused
from lmsi_cli.engine.base import Request
from lmsi_cli.engine.fitting import split
from lmsi_cli.engine.layout import Need, shared_prefix


class Ledger:
    """Which questions of which orders are open, and which of their paths have not ended."""

    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended
        self._orders: dict[int, set[str]] = {}
        self._order: dict[str, int] = {}
        self._left: dict[str, set[int]] = {}

    def begin(self, order: Order) -> None:
        """An order has come."""
        self._orders[order.number] = {q.id for q in order.questions}
        for q in order.questions:
            self._order[q.id], self._left[q.id] = order.number, set(q.paths)
        if not order.questions:
            self._close(order.number)

    def path(self, question_id: str, path: int) -> bool:
        """A path has ended; says whether it was its question's last."""
        left = self._left.get(question_id)
        if left is None:
            return False
        left.discard(path)
        return not left

    def left(self, question_id: str) -> int:
        """How many paths of a question have not ended."""
        return len(self._left.get(question_id, ()))

    def over(self, question_id: str) -> bool:
        """Nothing more of a question will come; says whether it was open."""
        if question_id not in self._order:
            return False
        number = self._order.pop(question_id)
        del self._left[question_id]
        self._orders[number].discard(question_id)
        if not self._orders[number]:
            self._close(number)
        return True

    def _close(self, number: int) -> None:
        del self._orders[number]
        self._ended(number)


class OrderFeed:
    """The requests of the orders that come, as a feed that an engine can draw from."""

    def __init__(
        self,
        orders: queue.SimpleQueue[Order | None],
        begun: Callable[[Order], None],
        write: Callable[[Asked], list[Request]],
    ) -> None:
        """Make one.

        Args:
            orders: Where they come from; None ends the feed.
            begun: Told of each order when it is taken up.
            write: Makes the requests of a question; none if it does not fit.
        """
        self._orders, self._begun, self._write = orders, begun, write
        self._asked: deque[Asked] = deque()
        self._requests: deque[Request] = deque()
        self._prefix: tuple[int, ...] = ()
        self._longest = self._room = 0  # of a prompt, and beside the path, in tokens
        self.closed = False

    def below(self, prefix: tuple[int, ...], need: Need, max_tokens: int) -> None:
        """Hand out only what shares this prefix and fits a cache that was made for this."""
        self._prefix = prefix
        self._longest, self._room = need.longest, need.max_tokens - max_tokens

    def head(self) -> Request | None:
        """The next request, waiting for one; None at the end."""
        while self._fill(wait=True):
            if self._requests:
                return self._requests[0]
        return None

    def there(self) -> Iterator[Request]:
        """Take all that can be had without waiting, whatever its prefix."""
        while self._fill(wait=False):
            yield self._requests.popleft()

    def __bool__(self) -> bool:
        """Say whether a request that may be drawn in this cache is there now."""
        return self._fill(wait=False) and self._fits(self._requests[0])

    def popleft(self) -> Request:
        """Take it."""
        return self._requests.popleft()

    def wait(self) -> bool:
        """Wait for a request; False: it needs another cache, or none will come."""
        head = self.head()
        return head is not None and self._fits(head)

    def _fits(self, r: Request) -> bool:
        start = len(self._prefix)
        shares = r.prompt[:start] == self._prefix
        return shares and start < len(r.prompt) <= self._longest and r.room <= self._room

    def _fill(self, wait: bool) -> bool:
        """Make the next request; True if there is one."""
        while not self._requests:
            if self._asked:
                self._requests.extend(self._write(self._asked.popleft()))
            elif not self._take(wait):
                return False
        return True

    def _take(self, wait: bool) -> bool:
        if self.closed:
            return False
        try:
            order = self._orders.get(block=wait)
        except queue.Empty:
            return False
        if order is None:
            self.closed = True
            return False
        self._begun(order)
        self._asked.extend(order.questions)
        return True


def common(requests: list[Request]) -> tuple[int, ...]:
    """The ids that all prompts begin with, leaving each at least one."""
    prompts = [r.prompt for r in requests]
    return prompts[0][: shared_prefix(prompts)] if prompts else ()


def refusal(requests: list[Request], max_tokens: int, room: int) -> Refused | None:
    """Why a question cannot be drawn whole: one of its prompts does not fit; None if all do."""
    skipped = split(requests, max_tokens, room).skipped
    if not skipped:
        return None
    worst = max(skipped, key=lambda s: s.prompt)
    why = str(worst._replace(words="")).partition(": ")[2]
    return Refused(question_id=worst.question_id, words=worst.words, why=why)
