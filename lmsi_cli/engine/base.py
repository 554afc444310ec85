"""The interface of every engine, and the records that pass through it.

Knows nothing of llama.cpp, files or votes. A request carries one prompt and the paths wanted
from it; the engine yields each path when it ends, in any order:

    Request("q7", prompt=(49, 26, 318), wanted=(Wanted(path=0, seed=91),))
    -> Generated("q7", path=0, seed=91, text=" 2 + 2 = 4. The answer is 4.", tokens=17, ...)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from lmsi_cli.config import SamplingConfig, Variables
from lmsi_cli.records import Prompt, StopReason

SEED_BITS = 53  # the largest integer that every JSON reader keeps exactly
PINNED = ("kv", "flash_attn", "fast_copy")  # settled values that a path's last bits depend on

Settled = Mapping[str, int | str]  # the values that ``auto`` settled on


def pinned(settled: Settled) -> Settled:
    """The settled values that a path's last bits depend on."""
    return {k: settled[k] for k in PINNED if k in settled}


class Wanted(NamedTuple):
    """One path to draw: its number and the seed of its own random stream."""

    path: int
    seed: int


class Encoded(NamedTuple):
    """A prompt's ids, and its tail that belongs to the reply: a thinking block it has opened.

    ``ids`` is empty if a server keeps the vocabulary; the server then decides whether it fits.
    """

    ids: list[int]
    begun: str = ""


class Request(NamedTuple):
    """One prompt and the paths to draw from it; ``words`` tell a person which question it is.

    Each path's text starts with ``begun``, which already ends the prompt (see ``Encoded``).
    Requests of one ``block`` share a long prefix; see ``draw``. An engine without a vocabulary
    sends ``asked``, the prompt as text or messages, and the chat template's ``variables``.
    """

    question_id: str
    prompt: tuple[int, ...]
    wanted: tuple[Wanted, ...]
    words: str = ""
    begun: str = ""
    block: int = 0
    asked: Prompt = ""
    variables: Variables = ()


class Token(NamedTuple):
    """A drawn token, and the character offset in the path's text at which it begins.

    ``logprob`` is a natural log, at temperature 1 and before any filter.
    """

    id: int
    start: int
    logprob: float


class Generated(NamedTuple):
    """One finished path; ``logprob`` sums natural logs at temperature 1 over the kept tokens.

    It is None if a server reports no log-probabilities. ``drawn`` holds the kept tokens. ``tokens``
    also counts those that only showed that the path was over, and whose text was cut off.
    """

    question_id: str
    path: int
    seed: int
    text: str
    tokens: int
    logprob: float | None
    stop_reason: StopReason
    drawn: tuple[Token, ...] = ()


class Refusal(NamedTuple):
    """A question that does not fit the context or was left unfinished, and why."""

    question_id: str
    words: str
    why: str

    def __str__(self) -> str:
        words = f" ({self.words})" if self.words else ""
        return f"question {self.question_id!r}{words}: {self.why}"


class Watch(Protocol):
    """Tells an engine which paths are still needed while it draws."""

    def needed(self, question_id: str) -> int:
        """Return the limit below which every path is needed; the others only fill idle slots.

        Until the question is decided, it is above the lowest path number that has not ended.
        """

    def decided(self, question_id: str) -> bool:
        """Whether a question is decided; asked after one of its paths has ended and been taken."""

    def cancelled(self, question_id: str, path: int, tokens: int) -> None:
        """Note that a path of a decided question was cancelled after so many tokens."""


class Engine(Protocol):
    """A model that draws many paths from many prompts; closed at the end of a ``with``.

    ``context``: tokens that a prompt and its path may have together.
    """

    context: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def settled(self) -> dict[str, int | str]:
        """The values that ``auto`` settled on, by setting; empty before the first path."""

    def pin(self, kind: Mapping[str, int | str]) -> None:
        """Use this kind of cache from now on; an engine without a choice ignores it."""

    def refusals(self) -> Sequence[Refusal]:
        """Questions left unfinished since the last call, with the server's reasons."""
        return ()

    def encode_prompt(self, prompt: Prompt, variables: Variables = ()) -> Encoded:
        """Turn plain text or a conversation into ids; ``variables`` are the chat template's."""

    def use_adapter(self, path: str | None, scale: float = 1.0) -> None:
        """Switch an adapter on, or off with ``None``: a GGUF file, or a server's name for it."""

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingConfig,
        trigger: str,
        watch: Watch | None = None,
    ) -> Iterator[Generated]:
        """Draw every wanted path, except those of questions that ``watch`` calls decided.

        Yields each path as it ends, including those that end in the same step as the deciding one.
        """

    def close(self) -> None:
        """Free the memory."""


def path_seed(run_seed: int, question_id: str, path: int) -> int:
    """Derive a path's seed from (run seed, question, path number) and from nothing else.

    A path therefore draws the same numbers whether the run was interrupted or not.
    """
    key = f"{run_seed}\x1f{question_id}\x1f{path}".encode()
    digest = hashlib.blake2b(key, digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - SEED_BITS)


def blocks(requests: Sequence[Request], in_turn: bool = False) -> list[list[Request]]:
    """Split requests into engine calls; those without a wanted path stay for their prefix.

    The sampler holds one prefix for all prompts of a call. If the paths of a question are shown
    different exemplars, there is no such prefix, but the prompts of each template share one:

        blocks([r(q1, block=0), r(q1, block=1), r(q2, block=0), r(q2, block=1)])
        -> [[r(q1, block=0), r(q2, block=0)], [r(q1, block=1), r(q2, block=1)]]

    ``in_turn``: path 0 of all questions first, then path 1, and so on, since a question that may
    stop early is decided in the order of its paths.
    """
    numbers = sorted({r.block for r in requests})
    found = [[r for r in requests if r.block == number] for number in numbers]
    if len(numbers) < 2 or not in_turn:
        return found

    def only(r: Request, path: int) -> Request:
        return r._replace(wanted=tuple(w for w in r.wanted if w.path == path))

    paths = sorted({w.path for r in requests for w in r.wanted})
    turns = ([only(r, path) for r in block] for path in paths for block in found)
    return [turn for turn in turns if any(r.wanted for r in turn)]


def draw(
    engine: Engine,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    trigger: str,
    watch: Watch | None = None,
) -> Iterator[Generated]:
    """Draw every wanted path, block by block; otherwise the same as ``Engine.generate``."""
    for block in blocks(requests, in_turn=watch is not None):
        done = {r.question_id for r in block if watch and watch.decided(r.question_id)}
        left = [r._replace(wanted=()) if r.question_id in done else r for r in block]
        yield from engine.generate(left, sampling, trigger, watch)
