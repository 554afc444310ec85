"""How a run's questions are asked: its task in a wording, as a conversation or as plain text.

``lmsi sample`` settles this once and writes it to run.toml, so that every later command asks in the
same way. The format and the longest path are in ``[sample]``, the words in ``[wording]``, and the
figures of the trial that chose them in ``[trial]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.catalog import Model
from lmsi_cli.config import DEFAULT_TASK, EvalConfig, SampleConfig, values_of
from lmsi_cli.config.options import TEMPLATE_FLAG
from lmsi_cli.engine.base import Engine
from lmsi_cli.engine.encode import ChatMode
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Progress, Question
from lmsi_cli.run_folder import RunDir
from lmsi_cli.settings import check
from lmsi_cli.stages.trial import FEWEST, Trial, hold_trial, trial_line
from lmsi_cli.tasks.loader import converted, load_task
from lmsi_cli.tasks.readers import split_source
from lmsi_cli.tasks.wording import AUTO, Wording, candidates, of_task, worded

GENERIC_TASK = "number"
BUDGET = 512  # tokens of a path if neither the settings nor a trial say
WORDING, TRIAL = "wording", "trial"  # sections of run.toml


class Asking(NamedTuple):
    """A task as it is asked; ``config`` has prompt, few_shot and max_tokens filled in.

    ``why`` says what decided between a conversation and plain text.
    """

    task: Task
    config: SampleConfig
    wording: Wording
    why: str = ""
    trial: Trial | None = None

    @property
    def named(self) -> dict[str, Any]:
        """What a run is tied to besides its settings and its model."""
        task_bytes = msgspec.json.encode(msgspec.structs.replace(self.task, chat=None))
        return {
            "wording": self.wording.name,
            "task_name": self.task.name,
            "task_sha256": hashlib.sha256(task_bytes).hexdigest(),
            "chat": "off" if self.task.chat is None else "on",  # in place of the setting's "auto"
            "lmsi": version("lmsi"),
        }


def pick_task(name: str, model: Model | None, source: str = "") -> Task:
    """The task by name; ``auto``: the set's (``gsm8k:FILE``), the model card's, or ``number``."""
    if name == DEFAULT_TASK:
        of_model = model.card.task if model and model.card else GENERIC_TASK
        name = split_source(source)[0] or of_model
    return load_task(name)


def ask(
    task: Task,
    choice: ChatMode,
    config: SampleConfig,
    questions: Sequence[Question],
    run: RunDir | None = None,
    trying: tuple[Engine, Progress] | None = None,
) -> Asking:
    """Settle how questions are asked: as in the run folder, as the settings say, or by a trial.

    ``max_tokens`` 0 and an empty ``prompt`` leave the choice open. Without ``run``, or before its
    first path, nothing is settled yet. Without ``trying`` the first wording is taken, untried.

    LmsiError as ``formed``; or no such wording, or too few questions for ``--prompt auto``.
    """
    begun = run.load_settings() if run is not None and run.has_paths() else {}
    if run is not None and config.prompt in ("", AUTO) and WORDING in begun:
        found = [wording_of(run)]
    else:
        found = candidates(config.prompt, task, choice.chat)
    if config.few_shot != "auto":
        found = [msgspec.structs.replace(w, few_shot=config.few_shot) for w in found]
    if config.prompt == AUTO and len(questions) < FEWEST and not begun:
        raise LmsiError(
            f"--prompt auto: {len(questions)} questions are too few to try wordings on",
            hint=f"give at least {FEWEST}, or choose one: --prompt {found[0].name}",
        )
    wording, trial = found[0], None
    if trying and len(found) > 1 and len(questions) >= FEWEST:
        engine, progress = trying
        open_ = [(w, formed(task, w, choice, config).task) for w in found]
        trial = hold_trial(questions, open_, engine, config, progress)
        progress.say(trial_line(trial))
        wording = found[trial.best]
    saved = begun.get("sample", {}).get("max_tokens")
    budget = config.max_tokens or saved or (trial.budget if trial else BUDGET)
    config = msgspec.structs.replace(config, max_tokens=budget)
    return formed(task, wording, choice, config)._replace(trial=trial)


def formed(task: Task, wording: Wording, choice: ChatMode, config: SampleConfig) -> Asking:
    """Put the task in a wording, and in a conversation if ``choice`` says so.

    LmsiError: a system message or a variable of the chat template is given for plain text, or a
    variable cannot be read.
    """
    chat = None
    if choice.chat:
        values_of(config.template_var)  # an unreadable one fails before a server is asked
        chat = Chat(few_shot=wording.few_shot, system=config.system, variables=config.template_var)
    else:
        for flag, value in (("--system", config.system), (TEMPLATE_FLAG, config.template_var)):
            if value:
                raise _nowhere(choice.why, flag)
    config = msgspec.structs.replace(config, prompt=wording.prompt, few_shot=wording.few_shot)
    return Asking(
        msgspec.structs.replace(worded(task, wording), chat=chat), config, wording, choice.why
    )


def _nowhere(why: str, flag: str = "--system") -> LmsiError:
    hint = "leave it out, or use a chat model"
    return LmsiError(f"{flag} needs a conversation, and prompts are plain text: {why}", hint)


def keep(run: RunDir, asking: Asking) -> None:
    """Write to run.toml how a run's questions are asked, and the trial if there was one."""
    run.save_settings(WORDING, msgspec.to_builtins(asking.wording))
    if asking.trial is not None:
        run.save_settings(TRIAL, msgspec.to_builtins(asking.trial))


def sampled(run: RunDir) -> dict[str, Any]:
    """The ``[sample]`` section of a run; LmsiError: there is none, or its task is not text."""
    saved = run.load_settings().get("sample")
    if saved is None:
        hint = f"run `lmsi sample QUESTIONS -o {run.typed}` first"
        raise LmsiError(f"{run.root}: not a run folder (no [sample] in run.toml)", hint)
    for name in ("task", "task_name"):
        if not isinstance(saved.get(name), str):
            raise LmsiError(f"{run.run_toml} [sample] {name}: expected text, got {saved.get(name)}")
    return saved


def task_of(run: RunDir, name: str = DEFAULT_TASK) -> Task:
    """The task that a run was sampled with, or another one in the same form; needs no model.

    A task with another kind of answer is asked in the first wording for that kind.
    """
    saved = sampled(run)
    own = _own_task(saved)
    task = own if name == DEFAULT_TASK else load_task(name)
    choice = ChatMode(saved.get("chat") == "on", "as sampled")
    wording = wording_of(run) if task.kind == own.kind else candidates("", task, choice.chat)[0]
    return formed(task, wording, choice, sample_config(run)).task


def wording_of(run: RunDir) -> Wording:
    """The wording that a run was sampled in; its task's own words if run.toml has none."""
    settings = run.load_settings()
    if WORDING in settings:
        where, hint = f"{run.run_toml} [{WORDING}]", "mend it, or use another folder"
        return converted(settings[WORDING], Wording, where, hint)
    saved = sampled(run)
    form = {k: saved[k] for k in ("prompt", "few_shot") if saved.get(k)}
    own = of_task(_own_task(saved), saved.get("chat") == "on")
    return msgspec.structs.replace(own, **form)


def _own_task(saved: dict[str, Any]) -> Task:
    return load_task(saved["task_name"] if saved["task"] == DEFAULT_TASK else saved["task"])


def examined(task: Task, sample: SampleConfig, settings: EvalConfig) -> tuple[Task, EvalConfig]:
    """The task as an evaluation asks it, and its settings with prompt and max_tokens filled in.

    What ``settings`` give takes precedence over how the run was sampled.

    LmsiError: a system message is given for plain text, or there is no such wording.
    """
    talks = task.chat is not None if settings.chat == "auto" else settings.chat == "on"
    if settings.system and not talks:
        raise _nowhere("--chat off" if settings.chat == "off" else "as sampled")
    few_shot = task.chat.few_shot if task.chat else "turns"
    if settings.prompt not in ("", AUTO):
        wording = candidates(settings.prompt, load_task(task.name), talks)[0]
        task, few_shot = worded(task, wording), wording.few_shot
    if settings.few_shot != "auto":
        few_shot = settings.few_shot
    system = sample.system if settings.system is None else settings.system
    chat = Chat(few_shot=few_shot, system=system, variables=sample.template_var) if talks else None
    budget = settings.max_tokens or sample.max_tokens or BUDGET
    open_ = msgspec.structs.replace(settings, prompt=task.format, max_tokens=budget)
    return msgspec.structs.replace(task, chat=chat), open_


def sample_config(run: RunDir) -> SampleConfig:
    """The settings that a run was sampled with."""
    return check(SampleConfig, sampled(run), f"{run.run_toml} [sample]")
