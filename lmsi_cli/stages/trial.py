"""A trial of wordings: a few paths of each candidate on the user's own questions, without labels.

If paths of one question agree more than paths of different questions do, the model was asked well;
``docs/models.md`` has measurements of how well the choice works. The lengths of a candidate's paths
also tell how long paths have to be. Knows an engine and the candidates; no files.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import chain, combinations

import msgspec

from lmsi_cli.config import SampleConfig
from lmsi_cli.engine.base import Engine, Request, draw
from lmsi_cli.engine.checks import room_of, split, split_for
from lmsi_cli.engine.paths import to_path
from lmsi_cli.formats import percent
from lmsi_cli.prompts import Task
from lmsi_cli.records import FewShot, Path, Progress, PromptFormat, Question, Record
from lmsi_cli.stages.sample import requests_of
from lmsi_cli.tasks.wording import Wording
from lmsi_cli.voting.ballots import is_cut_thinking

FEWEST = 5  # questions that a trial needs
PATHS = 96  # of all candidates together: 3% of 200 questions with 16 paths each
EACH = 4  # paths per question and candidate
TOKENS = 512  # longest path of a trial, unless the settings give it
CUT = 0.05  # share of cut-off paths that calls for longer ones
SHORTEST, SPARE, STEP = 128, 1.5, 64  # of a budget: minimum, factor over the longest path, rounding
THINKING = 4096  # budget in tokens if paths are cut off inside their thinking
READ = 0.5  # share of paths with an answer; with less the first candidate may be replaced
CLEAR = 0.2  # lead in agreement that replaces the first candidate; less is mostly chance


class Tried(Record, frozen=True, kw_only=True):
    """A candidate's figures: shares from 0 to 1, tokens per path; ``agreement`` beyond chance."""

    name: str
    prompt: PromptFormat
    few_shot: FewShot
    paths: int
    agreement: float
    parsed: float
    cut_off: float
    thinking: float
    tokens: float
    longest: int


class Trial(Record, frozen=True, kw_only=True):
    """All candidates, the index of the best one, and the budget that its paths call for."""

    questions: int
    tried: tuple[Tried, ...]
    best: int
    budget: int


def hold_trial(
    questions: Sequence[Question],
    candidates: Sequence[tuple[Wording, Task]],
    engine: Engine,
    config: SampleConfig,
    progress: Progress,
) -> Trial:
    """Draw a few paths of every candidate on the same questions, evenly spread, and compare them.

    Each wording comes with the task as it asks it. A token limit in ``config`` holds for the trial,
    too. LmsiError: not one question fits the context.
    """
    each = max(FEWEST, PATHS // EACH // len(candidates))
    asked = questions[:: max(1, len(questions) // each)][:each]
    limit = config.max_tokens or TOKENS
    sampling = msgspec.structs.replace(config, max_tokens=limit, paths=EACH)
    requests: list[list[Request]] = []  # of each candidate
    for i, (_, task) in enumerate(candidates):
        block = i if task.format.endswith("few") else 0  # few-shot prompts share a long prefix
        own = requests_of(asked, engine, task, sampling)
        requests.append([r._replace(question_id=f"{i} {r.question_id}", block=block) for r in own])
    room = room_of(engine, config)
    fitting = split(list(chain(*requests)), limit, room).fitting
    if not fitting:  # raises, by the questions' own names
        split_for(engine, requests_of(asked, engine, candidates[0][1], sampling), sampling)
    words = {q.id: q.question for q in asked}
    drawn: list[list[Path]] = [[] for _ in candidates]
    progress.start("trying wordings", sum(len(r.wanted) for r in fitting))
    trigger = candidates[0][1].trigger
    for done, generated in enumerate(draw(engine, fitting, sampling, trigger), 1):
        number, _, question_id = generated.question_id.partition(" ")
        text = generated._replace(question_id=question_id)
        task = candidates[int(number)][1]
        drawn[int(number)].append(to_path(text, task, words[question_id]))
        progress.advance(done)
    engine.refusals()  # taken off its list: a run asks these questions in other words
    tried = tuple(figures(w, paths) for (w, _), paths in zip(candidates, drawn, strict=True))
    best = best_of(tried)
    asked_so = {r.question_id for r in requests[best]}
    longest = max((len(r.prompt) for r in fitting if r.question_id in asked_so), default=0)
    budget = budget_of(tried[best], limit, room - longest)
    return Trial(questions=len(asked), tried=tried, best=best, budget=budget)


def figures(wording: Wording, paths: Sequence[Path]) -> Tried:
    """Compute a candidate's figures from its paths."""
    n = max(len(paths), 1)
    cut = [p for p in paths if p.stop_reason == "length"]
    answers: dict[str, list[str | None]] = {}
    for p in paths:
        voting = p.predicted_answer if p.stop_reason != "length" else None
        answers.setdefault(p.question_id, []).append(voting)
    return Tried(
        name=wording.name,
        prompt=wording.prompt,
        few_shot=wording.few_shot,
        paths=len(paths),
        agreement=agreement(list(answers.values())),
        parsed=sum(a is not None for group in answers.values() for a in group) / n,
        cut_off=len(cut) / n,
        thinking=sum(map(is_cut_thinking, paths)) / n,
        tokens=statistics.fmean(p.num_generated_tokens for p in paths) if paths else 0.0,
        longest=max((p.num_generated_tokens for p in paths if p not in cut), default=0),
    )


def agreement(answers: Sequence[Sequence[str | None]]) -> float:
    """How much more paths of one question agree than paths of different questions, at most 1.

    With ``w`` the share of pairs within a question that have equal answers, and ``b`` the same for
    pairs of different questions, it is (w - b) / (1 - b): Krippendorff's alpha for nominal data,
    except that a missing answer equals nothing. So a model that says "yes" to everything agrees by
    chance only (0), and each unread answer counts against its wording.
    """
    pairs = [(a, b) for group in answers for a, b in combinations(group, 2)]
    flat = [(i, a) for i, group in enumerate(answers) for a in group]
    others = [(a, b) for (i, a), (j, b) in combinations(flat, 2) if i != j]
    within, between = (
        sum(a is not None and a == b for a, b in found) / max(len(found), 1)
        for found in (pairs, others)
    )
    return (within - between) / (1 - between) if between < 1 else 0.0


def best_of(tried: Sequence[Tried]) -> int:
    """The candidate with the most agreement, if it is clearly ahead of the first, else the first.

    It is taken, too, if most of its paths have an answer while most of the first one's do not.

    The first was best when measured with right answers, and a few dozen paths tell little: in
    simulated trials any smaller margin lost more than it found.
    """
    most = max(range(len(tried)), key=lambda i: tried[i].agreement)
    first, other = tried[0], tried[most]
    unread = first.parsed < READ < other.parsed
    return most if unread or other.agreement >= first.agreement + CLEAR else 0


def budget_of(tried: Tried, limit: int, room: int) -> int:
    """The token limit for a run's paths, bounded by the room that prompts leave.

    It is 1.5 times the trial's longest complete path. If more than 5% of the paths were cut off, it
    is twice the trial's limit, or 4096 if more than 5% were cut off inside their thinking.
    """
    wanted = max(SHORTEST, SPARE * tried.longest)
    if tried.cut_off > CUT:
        wanted = THINKING if tried.thinking > CUT else 2 * limit
    return max(1, min(-(-int(wanted) // STEP) * STEP, room))


def trial_line(trial: Trial) -> str:
    """A line on the chosen wording with its figures, and on the next best."""
    best = trial.tried[trial.best]
    others = [t for t in trial.tried if t is not best]
    then = max(others, key=lambda t: t.agreement, default=None)
    after = f"; next best `{then.name}` with {then.agreement:.2f}" if then else ""
    return (
        f"asked as `{best.name}` ({best.prompt}): agreement {best.agreement:.2f}, "
        f"{percent(best.parsed)} parsed, {percent(best.cut_off)} cut off, "
        f"{best.tokens:.0f} tokens a path{after}"
    )
