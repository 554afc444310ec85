"""What training may not see: questions set apart, and what is measured on them now and then.

No labels: the paths of the held-out questions were kept by the vote like all others. Knows nothing
of the loop, of files or of what is alarming. A line of ``validation.jsonl``, in nats per token:

    {"step": 120, "loss": 0.231, "divergence": 0.041, "evenness": 0.98, "seconds": 1.3}
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from lmsi_cli.records import Record, TrainExample
from lmsi_cli.stats import evenness
from lmsi_cli.training import attention, data, load
from lmsi_cli.training.lessons import Lesson

if TYPE_CHECKING:
    import torch
    from torch import nn

LOG = "validation.jsonl"
# Fewer held-out questions say nothing; below ten times as many, they would cost more than a tenth
# of the data. More than the most change no decision: their mean is known well enough.
FEWEST, MOST = 8, 64
TRAINABLE = 10 * FEWEST
# Answers to watch for sameness: drawn token by token, hence few and short.
PROMPTS, PATHS, TOKENS = 4, 4, 16
TEMPERATURE = 0.7
# Cells of the base's next-token distribution that are kept apart; all other tokens share one.
CELLS = 64

# Validations of a run where --eval-every does not say; one costs about as much as half a step.
TIMES, SELDOM = 10, 20
# Answers are drawn at every fifth validation, and at the last: that costs more than a step.
DRAWN = 5


class Split(NamedTuple):
    """Examples or pairs to train on, and those of questions that training does not see."""

    train: Sequence[Lesson]
    held: list[Lesson]


class Watched(NamedTuple):
    """Examples to measure on, one per question; ``unseen`` where they are not trained on too."""

    examples: list[data.TokenExample]
    unseen: bool


class Reading(Record, frozen=True, kw_only=True):
    """The adapter after ``step`` steps; step 0 is the base.

    ``loss`` is the mean over the completion tokens. ``divergence`` is the mean Kullback-Leibler
    divergence of the adapted from the base's next-token distribution, at these tokens: a lower
    bound, since all but the base's likeliest tokens are lumped together. ``evenness`` is that of a
    few short drawn answers, 1 if no two are the same; None where none were drawn.
    """

    step: int
    loss: float
    divergence: float
    evenness: float | None
    seconds: float


def split(examples: Sequence[Lesson], share: float) -> Split:
    """Set questions apart, with all their examples: a question is on one side only.

    Which ones follows from their ids alone, so runs of other settings are measured on the same.

    Args:
        examples: Training examples or pairs; the order of those that stay is kept.
        share: Of the questions, 0 to 0.5; at least ``FEWEST`` and at most ``MOST`` are taken, and
            none below ``TRAINABLE`` questions.
    """
    if not share:
        return Split(examples, [])
    marks = [_mark(e.question_id) for e in examples]
    ids = sorted(set(marks))
    if len(ids) < TRAINABLE:
        return Split(examples, [])
    held = set(ids[: min(MOST, max(FEWEST, round(share * len(ids))))])
    sides: tuple[list[Lesson], list[Lesson]] = ([], [])
    for example, mark in zip(examples, marks, strict=True):
        sides[mark in held].append(example)
    return Split(*sides)


def one_each(examples: Iterable[TrainExample], most: int = MOST) -> list[TrainExample]:
    """One example of each question, of a format drawn by its hash; at most ``most`` questions."""
    best: dict[bytes, tuple[bytes, TrainExample]] = {}  # by question, the first by its own mark
    for e in examples:
        question, own = _mark(e.question_id), _mark(f"{e.question_id}/{e.format}/{e.path}")
        if question not in best or own < best[question][0]:
            best[question] = own, e
        if len(best) > most:
            del best[max(best)]
    return [best[question][1] for question in sorted(best)]


def _mark(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def due(step: int, total: int, every: int) -> bool:
    """Whether to validate after ``step`` of ``total`` steps; ``every`` 0: some ten times a run."""
    return step in (0, total) or step % _gap(total, every) == 0


def drawing(step: int, total: int, every: int) -> bool:
    """Whether answers are drawn there, too."""
    return step in (0, total) or step % (DRAWN * _gap(total, every)) == 0


def _gap(total: int, every: int) -> int:
    return every or max(SELDOM, math.ceil(total / TIMES))


class Validator:
    """Measures a model with an adapter on the same examples again and again.

    Draws its own random numbers and leaves torch's as they were, so that a run that is watched
    computes what it would unwatched.
    """

    def __init__(
        self, model: nn.Module, watched: Watched, row_tokens: int, dtype: load.Dtype
    ) -> None:
        self.model, self.dtype = model, dtype
        self.rows = [data.to_batch(row) for row in data.pack(watched.examples, row_tokens)]
        shortest = sorted(watched.examples, key=lambda e: e.length)
        self.prompts = [e.prompt for e in shortest[:PROMPTS]]
        self.ends = sorted({e.completion[-1] for e in watched.examples})
        with _resting(model), model.disable_adapter():  # type: ignore[operator]
            self.base = [_cells(self._logits(row)) for row in self.rows]
        self.vocabulary = int(model.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]

    def read(self, step: int, draw: bool) -> Reading:
        """Measure the model as it is now.

        Args:
            step: Finished steps; at 0 the base is measured, whatever the adapter starts from.
            draw: Also draw answers, which takes longer than all the rest.
        """
        started = time.perf_counter()
        off = nullcontext() if step else self.model.disable_adapter()  # type: ignore[operator]
        with _resting(self.model), off:
            figures = [
                _figures(self._logits(row), row.labels, base)
                for row, base in zip(self.rows, self.base, strict=True)
            ]
            loss = sum(f.loss for f in figures)
            drawn = self.evenness() if draw and math.isfinite(loss) else None
        tokens = sum(len(row.labels) for row in self.rows)
        return Reading(
            step=step,
            loss=loss / tokens,
            divergence=sum(f.divergence for f in figures) / tokens,
            evenness=drawn,
            seconds=time.perf_counter() - started,
        )

    def evenness(self) -> float:
        """How different the answers to a few prompts are, by their tokens: 0 all the same, 1 none.

        Over all prompts at once: what a collapsed model writes is the same whatever is asked.
        """
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            texts = [text for prompt in self.prompts for text in self._draw(prompt)]
        return evenness(list(Counter(texts).values())).value

    def _draw(self, prompt: list[int]) -> list[tuple[int, ...]]:
        import torch
        from transformers import GenerationConfig

        settings = GenerationConfig(
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            top_p=1.0,
            num_return_sequences=PATHS,
            max_new_tokens=TOKENS,
            use_cache=True,
            eos_token_id=self.ends,
            pad_token_id=self.ends[0],
        )
        ids = torch.tensor([prompt], device=next(self.model.parameters()).device)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            out = self.model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
            )
        return [tuple(row[len(prompt) :]) for row in out.tolist()]

    def _logits(self, row: data.Batch) -> torch.Tensor:
        import torch

        device = next(self.model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            out = self.model(
                input_ids=row.ids.to(device),
                position_ids=row.positions.to(device),
                use_cache=False,
                logits_to_keep=row.keep.to(device),
                **attention.argument(self.model, row.pieces),
            )
        return out.logits[0]  # type: ignore[no-any-return]


@contextmanager
def _resting(model: nn.Module) -> Iterator[None]:
    """Without dropout or gradients; afterwards as it was."""
    import torch

    busy = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(busy)


class _Cells(NamedTuple):
    """The base at C tokens: its likeliest next tokens (C, cells), with a last cell for the rest."""

    ids: torch.Tensor
    logs: torch.Tensor


class _Figures(NamedTuple):
    """Sums over the completion tokens of a row, in nats."""

    loss: float
    divergence: float


def _cells(logits: torch.Tensor) -> _Cells:
    logs = logits.float().log_softmax(-1)
    ids = logs.topk(min(CELLS, logs.shape[-1] - 1)).indices
    return _Cells(ids, _lump(logs, ids))


def _lump(logs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the cells: those of ``ids``, and of all other tokens together."""
    import torch

    kept = logs.gather(-1, ids)
    rest = (1 - kept.exp().sum(-1, keepdim=True)).clamp_min(1e-7).log()
    return torch.cat((kept, rest), dim=-1)


def _figures(logits: torch.Tensor, labels: torch.Tensor, base: _Cells) -> _Figures:
    logs = logits.float().log_softmax(-1)
    loss = -logs.gather(-1, labels.to(logs.device)[:, None]).sum()
    own = _lump(logs, base.ids)
    return _Figures(float(loss), float((own.exp() * (own - base.logs)).sum()))


def watched(examples: Iterable[data.TokenExample], unseen: bool) -> Watched | None:
    """The examples to measure on that predict anything; None if there are none."""
    found = [e for e in examples if e.completion and len(e.prompt) + len(e.completion) > 1]
    return Watched(found, unseen) if found else None
