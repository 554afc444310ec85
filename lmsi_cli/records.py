"""What flows between the stages: frozen records, one JSON object each.

The type is the validation: a line that does not fit its record is refused with file, line and
field. Knows no file names and no defaults of commands. One sampled path, as a line of
``paths.jsonl``:

    {"answer_logprob": -0.2, "extract_rule": "marker", "logprob": -4.1, "mean_logprob": -0.11,
     "num_generated_tokens": 38, "path": 3, "predicted_answer": "42", "question_id": "q7",
     "seed": 812733, "stop_reason": "answer",
     "text": " Half of 84 is 84 / 2 = 42. The answer is 42."}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

# What decoders of JSON and TOML raise for unreadable files; RecursionError: nested too deep.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
StopReason = Literal["answer", "next_question", "eos", "length"]
PromptFormat = Literal["cot-few", "cot-zero", "direct-few", "direct-zero"]
FormatChoice = Literal["auto", "cot-few", "cot-zero", "direct-few", "direct-zero"]
Mode = Literal["direct", "cot", "cot-few", "sc"]
Role = Literal["system", "user", "assistant"]
ChatChoice = Literal["auto", "on", "off"]
FewShot = Literal["turns", "message"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record: frozen, named fields only, misspelt fields refused."""


class Question(Record, frozen=True, kw_only=True):
    """One question as a person wrote it; ``answer`` is gold and only evaluation may read it.

    ``family`` names its kind and is only passed on. ``group`` names its cluster: questions made
    from one template, or about one text, are not independent trials.
    """

    id: str
    question: str
    answer: str | None = None
    family: str | None = None
    group: str | None = None


class Exemplar(Record, frozen=True, kw_only=True):
    """A worked example for few-shot prompts: the rationale without its answer sentence."""

    question: str
    rationale: str
    answer: str


class Template(Record, frozen=True, kw_only=True):
    """One of several sets of exemplars that the paths of a question take in turn."""

    exemplars: tuple[Exemplar, ...]


class Message(Record, frozen=True, kw_only=True):
    """One turn of a conversation, in the field names of chat templates and of TRL."""

    role: Role
    content: str


Prompt = str | tuple[Message, ...]  # plain text, or a conversation; a completion likewise


class Path(Record, frozen=True, kw_only=True):
    """One sampled chain of thought; never carries a gold answer.

    The log-probabilities are natural logs under the model's own distribution, at temperature 1 and
    before any filter. ``logprob`` is their sum over the tokens of ``text`` and the end-of-text
    token that closed it; ``mean_logprob`` divides it by their number (None if there are none);
    ``answer_logprob`` sums over the tokens that share a character with the answer (None without
    one). All three are None where a server gave no log-probabilities. ``num_generated_tokens`` is
    the cost of the path, so it includes tokens whose text was cut off after the answer.
    """

    question_id: str
    path: int
    seed: int
    text: str
    num_generated_tokens: int
    logprob: float | None
    stop_reason: StopReason
    predicted_answer: str | None
    extract_rule: str | None
    mean_logprob: float | None = None
    answer_logprob: float | None = None


class Vote(Record, frozen=True, kw_only=True):
    """The vote over one question's paths; ``kept`` are path indices that may be trained on.

    ``total_votes`` counts ballots: paths that are complete, parsed and not refuted by their own
    arithmetic (``refuted``, where that is checked). ``num_paths`` counts all paths, so that
    ``share = majority_votes / total_votes`` and ``share_of_all = majority_votes / num_paths``.
    ``runner_up_votes`` is the most ballots that any other answer has. ``entropy`` is that of the
    ballots in nats, 0 if all agree. ``posterior`` is the probability that the winner is the
    likelier of the first two answers, from their ballots alone (``stopping.lead_probability``): it
    says that the mode is the mode, never that it is right. ``stopped`` says that the question has
    fewer paths than requested because ``--stop`` took it as decided: its shares are high because
    sampling went on until they were, so they cannot be compared with those of other questions.
    """

    question_id: str
    predicted_answer: str | None
    majority_votes: int
    runner_up_votes: int
    total_votes: int
    num_paths: int
    no_answer: int
    truncated: int
    refuted: int
    tie: bool
    share: float
    share_of_all: float
    margin: float
    ballots: dict[str, int]
    kept: tuple[int, ...]
    stopped: bool = False
    entropy: float = 0.0
    posterior: float = 0.5


class TrainExample(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One prompt/completion pair (TRL's field names) and where it came from.

    Both are text, or both are lists of messages: TRL's plain and its conversational form.
    ``chat_template_kwargs`` are the values of the template's variables, where there are any.
    """

    prompt: Prompt
    completion: Prompt
    format: PromptFormat
    question_id: str
    path: int | None
    chat_template_kwargs: dict[str, Any] = {}


class Preference(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Two completions of one prompt, the better one first (TRL's field names), and their origin.

    ``chosen`` is a path of the winning answer, ``rejected`` one of the least supported answer.
    ``weight`` is the difference of their answers' ballots as a share of all paths, 0 to 1.
    """

    prompt: Prompt
    chosen: Prompt
    rejected: Prompt
    weight: Annotated[float, msgspec.Meta(ge=0)]
    format: PromptFormat
    question_id: str
    chosen_path: int
    rejected_path: int
    chat_template_kwargs: dict[str, Any] = {}


class Interval(Record, frozen=True, kw_only=True):
    """A figure with its 95% interval over ``n`` items; all as fractions of one."""

    value: float
    low: float
    high: float
    n: int


class Paired(Record, frozen=True, kw_only=True):
    """Before/after on the same questions: the difference with its interval, and a paired test."""

    difference: float
    low: float
    high: float
    n: int
    gained: int
    lost: int
    p_value: float
    smallest_visible: float


class Status(Record, frozen=True, kw_only=True):
    """What a command that works in a run folder reports of itself, about every two seconds.

    ``begun`` and ``updated`` are seconds since 1970; ``left`` is the time until ``total``, in
    seconds, as its own progress view shows it; ``memory`` is the process's resident size in bytes.
    ``ended`` says how it ended: ``done``, ``interrupted`` or an error's text; None while it works,
    and forever if it was killed. ``said`` holds the last lines that stayed on its screen.
    """

    command: str
    pid: int
    phase: str = ""
    done: int = 0
    total: int = 0
    figures: dict[str, float | str] = {}
    left: float | None = None
    memory: int = 0
    begun: float
    updated: float = 0.0
    said: tuple[str, ...] = ()
    ended: str | None = None


class Progress:
    """How a stage reports its progress; the terminal overrides it, tests append to a list."""

    def start(self, label: str, total: int) -> None:
        """Begin a phase with ``total`` units of work (0: unknown)."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Report ``done`` finished units in all; ``figures`` are shown beside the bar."""

    def say(self, text: str) -> None:
        """Print a line that stays on the screen."""


class Silent(Progress):
    """Progress that nobody sees: the methods above do nothing by themselves."""
