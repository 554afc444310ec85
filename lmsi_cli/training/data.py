"""From prompt/completion pairs to packed rows of token ids.

Examples of one step share a row: a few-shot prefix stands there once, every example's own part
(its *tail*) follows, positions restart after the prefix, and a tail sees its prefix and itself
only. Eight few-shot examples then cost one prefix and eight tails instead of eight of both, with
the same loss. The two completions of a preference pair share their whole prompt, below that
prefix, and always a row. Knows nothing of models or tokenizers; the caller passes functions. Two
examples with the prefix 5 6 and the tails 7|8 and 9|4 (completions after the bar) become

    Row(ids=[5, 6, 7, 8, 9, 4], positions=[0, 1, 2, 3, 2, 3],
        pieces=[Piece(2, None), Piece(2, 0), Piece(2, 0)], keep=[2, 4], labels=[8, 4],
        parts=[Part(labels=1), Part(labels=1)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Preference, Prompt, TrainExample
from lmsi_cli.training.attention import Piece

Example = TrainExample | Preference
# A prefix shorter than this saves less than the bookkeeping costs.
MIN_SHARED = 16
# Activations of a row are held until its backward pass; longer rows gain no speed.
MAX_ROW_TOKENS = 1536


class Codec(NamedTuple):
    """The GGUF's own tokenizer, as the engine calls it.

    ``prompt`` gives the ids that a path was drawn from; ``completion``, of a prompt and what
    follows it, gives the ids to learn, with the token that ends them.
    """

    prompt: Callable[[Prompt], list[int]]
    completion: Callable[[Prompt, Prompt], list[int]]


class TokenExample(NamedTuple):
    """Token ids of one prompt and its completion, and how much they count in the loss.

    The first ``shared`` prompt ids are common to its format, the first ``stem`` to it and the other
    completion of its pair.
    """

    prompt: list[int]
    completion: list[int]
    shared: int = 0
    name: str = ""
    weight: float = 1.0
    stem: int = 0

    @property
    def length(self) -> int:
        """Tokens of prompt and completion together."""
        return len(self.prompt) + len(self.completion)

    @property
    def predicted(self) -> int:
        """Completion tokens that have a predictor: the first token of a text has none."""
        return len(self.completion) - (not self.prompt)


class TokenPair(NamedTuple):
    """Two completions of one prompt, of equal weight, the better one first."""

    chosen: TokenExample
    rejected: TokenExample

    @property
    def length(self) -> int:
        """Tokens of the longer sequence."""
        return max(self.chosen.length, self.rejected.length)


Unit = TokenExample | TokenPair  # what a step is made of; all of one run are of one kind


def first(unit: Unit) -> TokenExample:
    """The example itself, or the chosen one of a pair; their prompts and weights are the same."""
    return unit.chosen if isinstance(unit, TokenPair) else unit


def sequences(units: Iterable[Unit]) -> list[TokenExample]:
    """The single sequences of examples or pairs, in order; a pair's chosen one comes first."""
    return [e for unit in units for e in (unit if isinstance(unit, TokenPair) else (unit,))]


class TokenSet(NamedTuple):
    """The examples or pairs that fit, and how many did not."""

    examples: Sequence[Unit]
    dropped: int


class Part(NamedTuple):
    """One sequence of a row: how many labels are its own, and how much each of them counts."""

    labels: int
    weight: float = 1.0


class Row(NamedTuple):
    """One forward pass: T tokens, of which C are predicted.

    ``keep`` are the positions whose output predicts ``labels``; ``parts`` are the sequences that
    these belong to, in their order.
    """

    ids: list[int]
    positions: list[int]
    pieces: list[Piece]
    keep: list[int]
    labels: list[int]
    parts: list[Part]

    @property
    def plain(self) -> bool:
        """Whether it is one plain sequence, which any model can take."""
        return self.positions == list(range(len(self.ids)))


def tokenize(examples: Iterable[Example], codec: Codec, max_length: int) -> TokenSet:
    """Turn examples or pairs into ids, and find each format's shared prefix.

    What is too long is left out; a pair is, if one of its sides is.

    Args:
        examples: Prompts with one completion each, or all of them with two.
        codec: The tokenizer.
        max_length: Longest prompt and completion together, in tokens.
    """
    kept: list[Unit] = []
    formats: list[str] = []
    dropped = 0
    for example in examples:
        unit = _unit(example, codec)
        if unit.length <= max_length:
            kept.append(unit)
            formats.append(example.format)
        else:
            dropped += 1
    return TokenSet(share_prefixes(kept, formats), dropped)


def _unit(example: Example, codec: Codec) -> Unit:
    prompt, name = codec.prompt(example.prompt), f"{example.question_id} ({example.format})"
    # The last prompt token predicts the first one of a completion, so each has its own.
    stem = max(0, len(prompt) - 1) if isinstance(example, Preference) else 0

    def ids(completion: Prompt, name: str) -> TokenExample:
        learned = codec.completion(example.prompt, completion)
        return TokenExample(prompt, learned, name=name, weight=example.weight, stem=stem)

    if isinstance(example, TrainExample):
        return ids(example.completion, name)
    return TokenPair(
        ids(example.chosen, f"{name}, chosen"), ids(example.rejected, f"{name}, rejected")
    )


def weighed(units: Sequence[Unit]) -> Sequence[Unit]:
    """Scale the weights of examples so that their mean is 1; those of pairs stay.

    Raises:
        LmsiError: All are 0.
    """
    weights = [1.0 if isinstance(u, TokenPair) else u.weight for u in units]
    if all(weight == 1 for weight in weights):
        return units
    mean = fmean(weights)
    if not mean:
        raise LmsiError(
            "nothing to train on: every example has the weight 0",
            hint="use --set example_weight=none, or run `lmsi vote` again",
        )
    return [u if isinstance(u, TokenPair) else u._replace(weight=u.weight / mean) for u in units]


def share_prefixes(units: Sequence[Unit], formats: Sequence[str]) -> list[Unit]:
    """Set ``shared`` to the longest prompt prefix common to all examples of a format."""
    prompts: dict[str, list[list[int]]] = {}
    for unit, kind in zip(units, formats, strict=True):
        prompts.setdefault(kind, []).append(first(unit).prompt)
    shared = {kind: _common(found) for kind, found in prompts.items()}
    return [
        TokenPair(*(e._replace(shared=shared[kind]) for e in unit))
        if isinstance(unit, TokenPair)
        else unit._replace(shared=shared[kind])
        for unit, kind in zip(units, formats, strict=True)
    ]


def _common(prompts: Sequence[list[int]]) -> int:
    """Tokens of the prefix; 0 where it is too short to be of use, or there is one prompt only."""
    # All prompts lie between these two in dictionary order. The last prompt token stays in the
    # tail, for it predicts the first token of the completion.
    low, high = min(prompts), max(prompts)
    same = next(
        (i for i, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low)
    )
    length = min(same, min(map(len, prompts)) - 1)
    return length if len(prompts) > 1 and length >= MIN_SHARED else 0


def pack(units: Sequence[Unit], max_tokens: int = MAX_ROW_TOKENS) -> list[Row]:
    """Pack one step's examples, or pairs, into as few rows as fit ``max_tokens`` each.

    One that is longer than that gets a row of its own. ``max_tokens=0`` packs nothing, for models
    whose attention is more than a mask: one sequence a row, those of a pair one after the other.
    """
    # Equal prefixes next to each other, the longest first, so that they meet in one row.
    ordered = sorted(units, key=lambda u: (-first(u).shared, first(u).prompt[: first(u).shared]))
    if not max_tokens:
        return [_row([e]) for e in sequences(ordered)]
    bins: list[list[TokenExample]] = []
    for unit in ordered:
        own = sequences([unit])
        home = next((b for b in bins if _tokens([*b, *own]) <= max_tokens), None)
        if home is None:
            bins.append(own)
        else:
            home.extend(own)
    return [_row(b) for b in bins]


def _heads(example: TokenExample) -> list[tuple[int, ...]]:
    """The beginnings of its prompt that others may share, the shorter one first."""
    ends = [example.shared, example.stem] if example.stem > example.shared else [example.shared]
    return [tuple(example.prompt[:end]) for end in ends if end]


def _tokens(examples: Sequence[TokenExample]) -> int:
    """What ``_row`` makes of them, in tokens."""
    own: dict[tuple[int, ...], int] = {}  # of each head, the tokens that no shorter one holds
    for e in examples:
        inner = 0
        for head in _heads(e):
            own[head], inner = len(head) - inner, len(head)
    return sum(own.values()) + sum(e.length - max(e.shared, e.stem) for e in examples)


def _row(examples: Sequence[TokenExample]) -> Row:
    row = Row([], [], [], [], [], [])
    found: dict[tuple[int, ...], int] = {}
    for e in examples:
        parent, done = None, 0
        for head in _heads(e):
            if head not in found:
                found[head] = _add(row, list(head[done:]), done, parent)
            parent, done = found[head], len(head)
        tail = e.prompt[done:] + e.completion
        start = len(row.ids)
        _add(row, tail, done, parent)
        # The token at k predicts the one at k + 1; the first token of a text has no predictor.
        first = max(len(e.prompt) - done, 1)
        row.keep.extend(range(start + first - 1, start + len(tail) - 1))
        row.labels.extend(tail[first:])
        row.parts.append(Part(len(tail) - first, e.weight))
    return row


def _add(row: Row, ids: list[int], position: int, parent: int | None) -> int:
    row.ids.extend(ids)
    row.positions.extend(range(position, position + len(ids)))
    row.pieces.append(Piece(len(ids), parent))
    return len(row.pieces) - 1
