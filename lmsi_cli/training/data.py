"""From prompt/completion pairs to packed rows of token ids.

Examples of one step share a row: it holds a few-shot prefix once, then every example's own part
(its *tail*). Positions restart after the prefix, and a tail sees only its prefix and itself. Eight
few-shot examples then cost one prefix and eight tails instead of eight of both, with the same loss.
A preference pair is never split over packed rows, and its completions share their prompt but for
its last token. Knows nothing of models or tokenizers; the caller passes functions. Two examples
with the prefix 5 6 and the tails 7|8 and 9|4 (completions after the bar) become

    Row(ids=[5, 6, 7, 8, 9, 4], positions=[0, 1, 2, 3, 2, 3],
        pieces=[Piece(2, None), Piece(2, 0), Piece(2, 0)], keep=[2, 4], labels=[8, 4],
        parts=[(1, 1.0), (1, 1.0)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from lmsi_cli.records import Preference, Prompt, TrainExample
from lmsi_cli.training.attention import Piece

Example = TrainExample | Preference
# A prefix shorter than this saves less than the bookkeeping costs.
MIN_SHARED = 16
# Activations of a row are held until its backward pass; longer rows gain no speed.
MAX_ROW_TOKENS = 1536


class Codec(NamedTuple):
    """The GGUF's own tokenizer, as the engine calls it.

    ``prompt`` gives the ids that a path was sampled from; ``completion`` takes a prompt and what
    follows it, and gives the ids to learn, including the end token.
    """

    prompt: Callable[[Prompt], list[int]]
    completion: Callable[[Prompt, Prompt], list[int]]


class TokenExample(NamedTuple):
    """Token ids of a prompt and its completion.

    The first ``shared`` prompt ids are common to all examples of its format. A preference pair has
    a second, ``rejected`` completion, and ``weight`` is how much it counts in the loss.
    """

    prompt: list[int]
    completion: list[int]
    shared: int = 0
    name: str = ""
    weight: float = 1.0
    rejected: list[int] | None = None

    @property
    def completions(self) -> list[list[int]]:
        """The completion, or both of a pair, the chosen one first."""
        return [self.completion] if self.rejected is None else [self.completion, self.rejected]

    @property
    def length(self) -> int:
        """Tokens of the prompt and the longer completion together."""
        return len(self.prompt) + max(map(len, self.completions))

    @property
    def predicted(self) -> int:
        """Completion tokens that have a predictor: the first token of a text has none."""
        return sum(len(ids) - (not self.prompt) for ids in self.completions)

    @property
    def heads(self) -> list[tuple[int, ...]]:
        """The prefixes of its prompt that a row holds only once, the shorter one first.

        A pair shares its prompt but for the last token, which predicts a completion's first.
        """
        stem = 0 if self.rejected is None else max(0, len(self.prompt) - 1)
        ends = [self.shared, stem] if stem > self.shared else [self.shared]
        return [tuple(self.prompt[:end]) for end in ends if end]


def single(examples: Iterable[TokenExample]) -> list[TokenExample]:
    """Each completion as an example of its own, those of a pair one after the other."""
    return [e._replace(completion=ids, rejected=None) for e in examples for ids in e.completions]


class Row(NamedTuple):
    """One forward pass: T tokens, of which C are predicted.

    ``keep`` are the positions whose output predicts ``labels``; ``parts`` tells how many of these
    each completion has, in order, and the weight of its pair.
    """

    ids: list[int]
    positions: list[int]
    pieces: list[Piece]
    keep: list[int]
    labels: list[int]
    parts: list[tuple[int, float]]

    @property
    def plain(self) -> bool:
        """Whether it is one plain sequence, which any model can take."""
        return self.positions == list(range(len(self.ids)))


def tokenize(
    examples: Sequence[Example], codec: Codec, max_length: int
) -> tuple[list[TokenExample], int]:
    """Turn examples or pairs into ids, and find each format's shared prefix.

    Returns those of at most ``max_length`` tokens (prompt and completion together), and how many
    are longer; a pair counts by its longer side.
    """
    made = [(_ids(e, codec), e.format) for e in examples]
    kept = [(e, kind) for e, kind in made if e.length <= max_length]
    found = share_prefixes([e for e, _ in kept], [kind for _, kind in kept])
    return found, len(made) - len(kept)


def _ids(e: Example, codec: Codec) -> TokenExample:
    sides = (e.chosen, e.rejected) if isinstance(e, Preference) else (e.completion,)
    completion, *rejected = (codec.completion(e.prompt, side) for side in sides)
    return TokenExample(
        codec.prompt(e.prompt),
        completion,
        name=f"{e.question_id} ({e.format})",
        weight=getattr(e, "weight", 1.0),
        rejected=next(iter(rejected), None),
    )


def share_prefixes(examples: Sequence[TokenExample], formats: Sequence[str]) -> list[TokenExample]:
    """Set ``shared`` to the longest prompt prefix common to all examples of a format."""
    prompts: dict[str, list[list[int]]] = {}
    for e, kind in zip(examples, formats, strict=True):
        prompts.setdefault(kind, []).append(e.prompt)
    shared = dict.fromkeys(prompts, 0)
    for kind, found in prompts.items():
        # All prompts sort between these two, so what these share, all share. The last prompt token
        # stays in the tail: it predicts the first token of the completion.
        ends = zip(min(found), max(found), strict=False)
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], ends)))
        length = min(same, min(map(len, found)) - 1)
        if len(found) > 1 and length >= MIN_SHARED:
            shared[kind] = length
    return [e._replace(shared=shared[k]) for e, k in zip(examples, formats, strict=True)]


def pack(examples: Sequence[TokenExample], max_tokens: int = MAX_ROW_TOKENS) -> list[Row]:
    """Pack one step's examples, or pairs, into rows of up to ``max_tokens``, first fit.

    A longer one gets a row of its own. ``max_tokens=0`` packs nothing, for models without plain
    causal attention: each row holds one sequence, and those of a pair follow each other.
    """
    # Sort equal prefixes next to each other, the longest first, so that they share a row.
    ordered = sorted(examples, key=lambda e: (-e.shared, e.prompt[: e.shared]))
    if not max_tokens:
        return [_row([e]) for e in single(ordered)]
    bins: list[list[TokenExample]] = []
    for e in ordered:
        home = next((b for b in bins if _tokens([*b, e]) <= max_tokens), None)
        if home is None:
            bins.append([e])
        else:
            home.append(e)
    return [_row(b) for b in bins]


def _tokens(examples: Sequence[TokenExample]) -> int:
    """Length of the row that ``_row`` would make of these; many are tried for each row made."""
    own: dict[tuple[int, ...], int] = {}  # by head, its tokens beyond the shorter head
    tails = 0
    for e in examples:
        done = 0
        for head in e.heads:
            own[head], done = len(head) - done, len(head)
        tails += sum(len(e.prompt) - done + len(ids) for ids in e.completions)
    return sum(own.values()) + tails


def _row(examples: Sequence[TokenExample]) -> Row:
    row = Row([], [], [], [], [], [])
    found: dict[tuple[int, ...], int] = {}
    for e in examples:
        parent, done = None, 0
        for head in e.heads:
            if head not in found:
                found[head] = _add(row, list(head[done:]), done, parent)
            parent, done = found[head], len(head)
        for completion in e.completions:
            tail, start = e.prompt[done:] + completion, len(row.ids)
            _add(row, tail, done, parent)
            # The token at k predicts the one at k + 1; the first token of a text has no predictor.
            first = max(len(e.prompt) - done, 1)
            row.keep.extend(range(start + first - 1, start + len(tail) - 1))
            row.labels.extend(tail[first:])
            row.parts.append((len(tail) - first, e.weight))
    return row


def _add(row: Row, ids: list[int], position: int, parent: int | None) -> int:
    row.ids.extend(ids)
    row.positions.extend(range(position, position + len(ids)))
    row.pieces.append(Piece(len(ids), parent))
    return len(row.pieces) - 1
