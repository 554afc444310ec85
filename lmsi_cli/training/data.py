"""From prompt/completion pairs to packed rows of token ids.

Examples of one step share a row: a few-shot prefix stands there once, every example's own part
(its *tail*) follows, positions restart after the prefix, and a tail sees its prefix and itself
only. Eight few-shot examples then cost one prefix and eight tails instead of eight of both, with
the same loss. Knows nothing of models or tokenizers; the caller passes functions. Two examples
with the prefix 5 6 and the tails 7|8 and 9|4 (completions after the bar) become

    Row(ids=[5, 6, 7, 8, 9, 4], positions=[0, 1, 2, 3, 2, 3],
        pieces=[Piece(2, None), Piece(2, 0), Piece(2, 0)], keep=[2, 4], labels=[8, 4])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.records import Prompt, TrainExample
from lmsi_cli.training.attention import Piece

if TYPE_CHECKING:
    import torch

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
    """Token ids of one pair; the first ``shared`` prompt ids are common to its format."""

    prompt: list[int]
    completion: list[int]
    shared: int = 0
    name: str = ""

    @property
    def length(self) -> int:
        """Tokens of prompt and completion together."""
        return len(self.prompt) + len(self.completion)


class TokenSet(NamedTuple):
    """The examples that fit, and how many did not."""

    examples: list[TokenExample]
    dropped: int


class Row(NamedTuple):
    """One forward pass: T tokens, of which C are predicted.

    ``keep`` are the positions whose output predicts ``labels``.
    """

    ids: list[int]
    positions: list[int]
    pieces: list[Piece]
    keep: list[int]
    labels: list[int]


class Batch(NamedTuple):
    """A row as tensors: ids and positions (1, T), keep and labels (C,).

    ``pieces`` is None for a row of one plain sequence, which any model can take.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    pieces: list[Piece] | None
    keep: torch.Tensor
    labels: torch.Tensor


def tokenize(examples: Sequence[TrainExample], codec: Codec, max_length: int) -> TokenSet:
    """Turn pairs into ids, leave out the too long ones, and find each format's shared prefix.

    Args:
        examples: The pairs.
        codec: The tokenizer.
        max_length: Longest prompt and completion together, in tokens.
    """
    kept: list[TokenExample] = []
    formats: list[str] = []
    for e in examples:
        ids = TokenExample(
            codec.prompt(e.prompt),
            codec.completion(e.prompt, e.completion),
            name=f"{e.question_id} ({e.format})",
        )
        if ids.length <= max_length:
            kept.append(ids)
            formats.append(e.format)
    return TokenSet(share_prefixes(kept, formats), len(examples) - len(kept))


def share_prefixes(examples: Sequence[TokenExample], formats: Sequence[str]) -> list[TokenExample]:
    """Set ``shared`` to the longest prompt prefix common to all examples of a format."""
    prompts: dict[str, list[list[int]]] = defaultdict(list)
    for example, kind in zip(examples, formats, strict=True):
        prompts[kind].append(example.prompt)
    lengths = {kind: _common(group) for kind, group in prompts.items()}
    return [e._replace(shared=lengths[kind]) for e, kind in zip(examples, formats, strict=True)]


def _common(prompts: list[list[int]]) -> int:
    # The last prompt token stays in the tail, for it predicts the first token of the completion.
    low, high = min(prompts), max(prompts)  # all others lie between these two in dictionary order
    same = next(
        (i for i, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low)
    )
    length = min(same, *(len(p) - 1 for p in prompts))
    return length if len(prompts) > 1 and length >= MIN_SHARED else 0


def pack(examples: Sequence[TokenExample], max_tokens: int = MAX_ROW_TOKENS) -> list[Row]:
    """Pack one step's examples into as few rows as fit ``max_tokens`` each.

    An example longer than that gets a row of its own. ``max_tokens=0`` packs nothing: one example
    a row, for models whose attention is more than a mask.
    """
    bins: list[list[TokenExample]] = []
    # Equal prefixes next to each other, so that they meet in one row.
    for example in sorted(examples, key=lambda e: (-e.shared, e.prompt[: e.shared])):
        home = next((b for b in bins if _tokens([*b, example]) <= max_tokens), None)
        if home is None:
            bins.append([example])
        else:
            home.append(example)
    return [_row(b) for b in bins]


def _prefix(example: TokenExample) -> tuple[int, ...]:
    return tuple(example.prompt[: example.shared])


def _tokens(examples: Sequence[TokenExample]) -> int:
    tails = sum(e.length - e.shared for e in examples)
    return tails + sum(len(p) for p in {_prefix(e) for e in examples})


def _row(examples: Sequence[TokenExample]) -> Row:
    row = Row([], [], [], [], [])
    prefixes: dict[tuple[int, ...], int] = {}
    for e in examples:
        head = _prefix(e)
        if head and head not in prefixes:
            prefixes[head] = _add(row, list(head), 0, None)
        tail = e.prompt[e.shared :] + e.completion
        start = len(row.ids)
        _add(row, tail, e.shared, prefixes.get(head))
        # The token at k predicts the one at k + 1; the first token of a text has no predictor.
        first = max(len(e.prompt) - e.shared, 1)
        row.keep.extend(range(start + first - 1, start + len(tail) - 1))
        row.labels.extend(tail[first:])
    return row


def _add(row: Row, ids: list[int], position: int, parent: int | None) -> int:
    row.ids.extend(ids)
    row.positions.extend(range(position, position + len(ids)))
    row.pieces.append(Piece(len(ids), parent))
    return len(row.pieces) - 1


def to_batch(row: Row) -> Batch:
    """Turn a row into tensors; a row of one plain sequence needs no pieces."""
    import torch

    whole = row.positions == list(range(len(row.ids)))
    return Batch(
        ids=torch.tensor([row.ids]),
        positions=torch.tensor([row.positions]),
        pieces=None if whole else row.pieces,
        keep=torch.tensor(row.keep, dtype=torch.long),
        labels=torch.tensor(row.labels, dtype=torch.long),
    )
