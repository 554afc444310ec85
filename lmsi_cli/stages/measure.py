"""`lmsi eval` before and around the asking: which sets, which models, here or on a server.

Checks everything that can be checked before a model is loaded; asking and marking are in
``evaluate.py``:

    measure(prepare(run, EvalConfig(), ["test.jsonl"]), progress)
    -> [Evaluation(data="test", n=300, variants=(...), ...)]
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lmsi_cli.catalog import Model
from lmsi_cli.config import AUTO, DEFAULT_TASK, SERVER, SPEED_ONLY, EvalConfig, TrainConfig
from lmsi_cli.contamination import check_apart
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_object
from lmsi_cli.records import Progress, Question, Record
from lmsi_cli.reporting.grading import Candidate
from lmsi_cli.reporting.results import BASE, Evaluation
from lmsi_cli.resume import check_base, check_model
from lmsi_cli.rounds import adapters_of
from lmsi_cli.run_folder import RunDir, sha256_file, teacher_of
from lmsi_cli.splits import parts_of
from lmsi_cli.stages import engines
from lmsi_cli.stages.asking import examined, sample_config, task_of
from lmsi_cli.stages.evaluate import Exam, evaluate, paths_of, ways
from lmsi_cli.stages.pipeline import model_of
from lmsi_cli.stats.paired_tests import smallest_visible
from lmsi_cli.tasks.readers import read_labelled, set_name, split_source, trained_on


class Measurement(NamedTuple):
    """What to measure; on a server ``model`` is None and the base has no identity yet."""

    run: RunDir
    settings: EvalConfig
    exams: Sequence[Exam]
    model: Model | None
    candidates: Sequence[Candidate]


def prepare(
    run: RunDir,
    settings: EvalConfig,
    data: Sequence[str],
    adapters: Sequence[str] = (),
    allow_overlap: bool = False,
    null: bool = False,
) -> Measurement:
    """Read the labelled sets and find the models; loads none.

    ``data`` are files of labelled questions. ``adapters`` are more GGUF adapters, or run folders
    with one; on a server, their names there. ``allow_overlap`` measures on questions that were
    trained on, too, and ``null`` measures controls.

    LmsiError: a set, an adapter or the model is missing or unsound, an adapter was trained on a
    question of a set, or a setting does not fit the engine.
    """
    if settings.engine == SERVER:
        return _prepared_there(run, settings, data, adapters, null)
    engines.refuse_settings(settings)
    settings = engines.same_file(run, settings)
    if settings.engine == AUTO:
        settings = msgspec.structs.replace(settings, engine=engines.begun_with(run))
    model, exams = model_of(run), _exams(run, data, settings)
    files = []
    for given in map(Path, adapters):
        file = RunDir(given).adapter_gguf if given.is_dir() else given
        if not file.is_file():
            raise LmsiError(f"{file}: no such adapter", hint="give a GGUF adapter or a run folder")
        files.append(file)
    candidates = candidates_of(run, model.path, files, settings.scale)
    if null:
        candidates += controls(run, candidates[0], settings.scale)
    if not allow_overlap:
        asked = {exam.name: exam.asked for exam in exams}
        for trained in dict.fromkeys(c.adapter for c in candidates if c.adapter):
            check_apart(trained_on(Path(trained)), asked, "measure")
    return Measurement(run, settings, exams, model, candidates)


def _prepared_there(
    run: RunDir, settings: EvalConfig, data: Sequence[str], adapters: Sequence[str], null: bool
) -> Measurement:
    """What to measure on a server; by default the model and address that drew the run's paths."""
    if settings.scale:
        message = "--set scale: a server's adapters act as it was told"
        raise LmsiError(message, hint="leave it out")
    saved = run.load_settings().get("sample", {})
    saved = saved if saved.get("engine") == SERVER else {}
    model, url = (getattr(settings, n) or saved.get(n, "") for n in ("model", "base_url"))
    if not model:
        raise LmsiError(f"{run.root}: no server drew these paths", "name its model with --model")
    settings = msgspec.structs.replace(settings, model=model, base_url=url)
    found = [Candidate(BASE, None, {})]
    for name in dict.fromkeys(adapters):  # the server offers them as models of their own
        label = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
        found.append(Candidate(label, name, {"adapter_model": name}))
    found += [again(found[0])] if null else []
    return Measurement(run, settings, _exams(run, data, settings), None, found)


def measure(wanted: Measurement, progress: Progress) -> list[Evaluation]:
    """Ask the questions that have no answer yet; the caller holds the folder (``locked``)."""
    run, settings, exams, model, candidates = wanted
    if model is not None:
        with engines.open_file(model.path, settings, settings.engine) as engine:
            return evaluate(exams, candidates, engine, run, progress, about(model, engine))
    with engines.reach_server(settings) as there:
        for c in candidates:
            there.use_adapter(c.adapter)  # a missing one fails before an hour of asking
        found = [c._replace(identity={**there.identity, **c.identity}) for c in candidates]
        host, named = there.url.host, there.base
        source = {"file": f"{named} on {host}", "server": host, "model": named}
        record = {"source": source, "versions": {"lmsi": version("lmsi")}}
        return evaluate(exams, found, there, run, progress, record)


class Plan(Record, frozen=True, kw_only=True):
    """The plan for one data set.

    ``smallest_visible`` is the smallest true difference, as a fraction, that exact McNemar at 5%
    shows in 4 of 5 repeats if a fifth of the questions changes; with several data sets or adapters
    Holm's correction demands more. ``groups`` is the number of clusters if questions cluster, and
    then stands for ``questions`` in this; else None. ``answers`` counts those of all models.
    """

    data: str
    questions: int
    models: int
    answers: int
    groups: int | None
    smallest_visible: float


def plans_of(wanted: Measurement) -> list[Plan]:
    """What each data set could show, and how many answers that takes; asks no model."""
    plans = []
    for exam in wanted.exams:
        n, clusters = len(exam.asked), len({q.group or q.id for q in exam.asked})
        each = [
            paths_of(exam.config, mode)
            for candidate in wanted.candidates
            for _, modes in ways(exam.config, candidate)
            for mode in modes
        ]
        plan = Plan(
            data=exam.name,
            questions=n,
            models=len(wanted.candidates),
            answers=n * sum(each),
            groups=clusters if clusters < n else None,
            smallest_visible=smallest_visible(clusters),
        )
        plans.append(plan)
    return plans


def labelled_sets(files: Sequence[str]) -> dict[str, Sequence[Question]]:
    """Read labelled sets by name; LmsiError: two names are equal, or a file is unsound."""
    found: dict[str, Sequence[Question]] = {}  # results are named after them
    for place, file in enumerate(files):
        name = set_name(file)
        if file in files[:place]:
            raise LmsiError(f"{file}: --data names it twice", hint="name each file once")
        if name in found:
            raise LmsiError(f"{file}: another --data file is called {name} too", hint="rename one")
        found[name] = read_labelled(file)
    return found


def _exams(run: RunDir, data: Sequence[str], settings: EvalConfig) -> list[Exam]:
    if not data:
        raise LmsiError("no questions to measure on", hint="give --data FILE")
    sets, sample, found = labelled_sets(data), sample_config(run), list[Exam]()
    for source, (name, questions) in zip(data, sets.items(), strict=True):
        task, layout = task_of(run, settings.task), split_source(source)[0]
        if settings.task == DEFAULT_TASK and layout is not None:
            own = task_of(run, layout)  # the set's, if its kind of answer differs
            task = task if own.kind == task.kind else own
        exam = Exam(name, questions, *examined(task, sample, settings))
        _ = exam.gold  # unsound answers fail before a model is loaded
        found.append(exam)
    return found


def about(model: Model, engine: LlamaEngine) -> dict[str, Any]:
    """The model and versions for an evaluation's record."""
    words = (engine.model.piece(token) for token in range(engine.model.n_vocab))
    source = {
        "file": model.path.name,
        "sha256": sha256_file(model.path),
        # two tokenizers are the same if they spell all tokens alike
        "tokenizer_sha256": hashlib.sha256(b"\0".join(words)).hexdigest(),
        "architecture": engine.model.architecture,
        "parameters": engine.model.parameters,
        # of the file itself, even if a faster copy answers
        "bytes": sum(part.stat().st_size for part in parts_of(model.path)),
    }
    versions = {"lmsi": version("lmsi"), "llama_cpp_python": version("llama-cpp-python")}
    return {"source": source, "versions": versions}


def candidates_of(
    run: RunDir,
    model: Path,
    adapters: Sequence[Path] = (),
    scales: Sequence[float] = (),
    rounds: Sequence[RunDir] | None = None,
) -> list[Candidate]:
    """The base model, the run's adapter if it has one, and others; each at every scale.

    ``adapters`` are more GGUF adapters for the same base. ``scales`` say how strongly adapters act;
    empty means 1. ``rounds`` are folders of the run's own rounds; None takes the one that is kept.

    LmsiError: the paths were drawn, or an adapter was trained, with another base.
    """
    base = {"model_sha256": sha256_file(model)}
    check_model(run, model, base["model_sha256"])
    own = adapters_of(run, rounds)
    found = [Candidate(BASE, None, base)]
    for name, file in {**own, **_named(adapters, own)}.items():
        check_base(file, base["model_sha256"])
        identity = {**base, "adapter_sha256": sha256_file(file)}
        several = len(scales) > 1
        for scale in scales or (1.0,):
            label = f"{name} x{scale:g}" if several else name
            found.append(Candidate(label, str(file), identity, scale))
    return found


def controls(run: RunDir, base: Candidate, scales: Sequence[float] = ()) -> list[Candidate]:
    """The controls, which show how large a change without a gain can be.

    They are the base with other seeds and, if trained, the adapter of ``lmsi train --null`` at the
    first scale. LmsiError: that adapter was not trained the way the run's own was.
    """
    found, file = [again(base)], run.null.adapter_gguf
    if file.exists():
        _check_control(run)
        check_base(file, base.identity["model_sha256"])
        identity = {**base.identity, "adapter_sha256": sha256_file(file)}
        scale = scales[0] if scales else 1.0
        found.append(Candidate("shuffled votes", str(file), identity, scale, null=True))
    return found


def _check_control(run: RunDir) -> None:
    """Refuse a control that differs from the run's adapter by more than the shuffling."""
    control = read_object(run.null.adapter_origin)
    own = read_object(run.adapter_origin) if run.adapter_origin.exists() else control
    fields = [name for name in TrainConfig.__struct_fields__ if name not in SPEED_ONLY]
    other = [name for name in fields if control.get(name) != own.get(name)]
    taught = teacher_of(run.null) or {}
    if run.votes.exists() and taught.get("votes_sha256") != sha256_file(run.votes):
        other.append("votes")
    if other:
        raise LmsiError(
            f"{run.null.root}: the control has other {', '.join(other)} than the adapter",
            hint=f"`lmsi train {run.typed} --null --overwrite`, with the settings of the adapter",
        )


def again(base: Candidate) -> Candidate:
    """The base once more, as a control of itself."""
    return base._replace(name="base again", null=True)


def _named(adapters: Sequence[Path], own: Collection[str] = ()) -> dict[str, Path]:
    """Name adapters after their run folder or file; later ones of equal name get a number."""
    found: dict[str, Path] = {}
    for file in adapters:
        named = file.parent.parent.name if file.parent.name == "adapter" else ""
        stem = named or file.stem
        name, n = stem, 2
        while name in found or name in (BASE, "adapter", *own):
            name, n = f"{stem}-{n}", n + 1
        found[name] = file
    return found
