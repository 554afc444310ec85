"""A student's folder: what it learns, in whose form, and whom it belongs to."""

from collections import Counter

import msgspec
import pytest
from builders import tree
from msgspec.structs import replace
from stage_helpers import IDENTITY, TASK, examples_of, sampled, voted

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.prompts import PAPER, Chat
from lmsi_cli.records import Path, Silent
from lmsi_cli.resume import check_base, check_model
from lmsi_cli.run_folder import RunDir, teacher_of
from lmsi_cli.stages.distil import Student, control, teach
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.tasks.readers import trained_on

TALKING = replace(TASK, chat=Chat(few_shot="turns", system="Be brief."))
SMALL = {**IDENTITY, "model": "small.gguf", "model_sha256": "5a11", "chat": "off"}


@pytest.fixture
def teacher(tmp_path):
    sampled(tmp_path / "t")
    voted(tmp_path / "t")
    return RunDir(tmp_path / "t")


def taught(teacher, overwrite=False, task=TASK, progress=None, **identity):
    """The student's folder, beside its teacher's."""
    run = RunDir(teacher.root.with_name("s"))
    student = Student(run, run.root / "small.gguf", task, {**SMALL, **identity})
    teach(teacher, student, progress or Silent(), overwrite)
    return run


def sampled_as(teacher, **fields):
    """Let the teacher's folder say this of how its paths were drawn."""
    teacher.save_settings("sample", {**teacher.load_settings()["sample"], **fields})


SERVER = {"engine": "openai", "server": "gpu", "base_url": "http://gpu/v1", "model_stated": "b"}


@pytest.mark.parametrize(
    "drawn_by",
    [{"model": "a.gguf"}, {**SERVER, "model": "big", "model_sha256": None}],
    ids=["a file", "a server"],
)
def test_a_student_of_the_same_form_learns_what_the_teacher_would(teacher, watcher, drawn_by):
    sampled_as(teacher, **drawn_by)
    before = tree(teacher.root)
    run = taught(teacher, progress=watcher)
    made = tree(run.root)
    assert tree(taught(teacher).root) == made  # the same call again
    for name in ("train", "pairs", "questions", "votes", "vote_summary"):
        assert getattr(run, name).read_bytes() == getattr(teacher, name).read_bytes() != b""
    (told,) = watcher.said
    assert told.startswith(f"{len(examples_of(run))} examples") and drawn_by["model"] in told
    assert not SERVER.keys() & run.load_settings()["sample"].keys()
    assert not run.paths.exists()
    assert tree(teacher.root) == before


def test_a_control_learns_from_as_many_paths_whatever_they_answer(teacher):
    run = teacher.null
    student = Student(run, run.root / "a.gguf", TASK, {**IDENTITY, "chat": "off"}, shuffled=True)
    before = tree(teacher.root)
    teach(teacher, student, Silent())
    assert {p: x for p, x in tree(teacher.root).items() if run.root not in p.parents} == before
    paths = read_records(teacher.paths, Path)
    said = {(p.question_id, p.path): p.predicted_answer for p in paths}
    kept, own = ({(e.question_id, e.path) for e in examples_of(r)} for r in (run, teacher))
    assert Counter(q for q, _ in kept) == Counter(q for q, _ in own)
    assert kept != own and all(said[q, i] is not None for q, i in kept if i is not None)
    first = run.train.read_bytes()
    teach(teacher, student, Silent())  # a killed one is simply given again
    assert run.train.read_bytes() == first
    with pytest.raises(LmsiError, match="its teacher's"):  # it has no paths of its own
        control(run)


def test_a_chat_student_of_a_plain_teacher_is_taught_in_conversations(teacher):
    run = taught(teacher, task=TALKING, chat="on")
    assert {e.format for e in examples_of(run)} == {TALKING.format}  # a conversation's own
    vote_run(teacher, TASK, VoteConfig(formats=PAPER))
    run = taught(teacher, True, TALKING, chat="on")
    few = next(e for e in examples_of(run) if e.format == "cot-few")
    assert [m.role for m in few.prompt] == ["system", "user", "assistant", "user"]
    plain = {(e.question_id, e.format, e.path): e for e in examples_of(teacher)}
    for e in examples_of(run):  # the teacher's words, in another form
        same = plain[e.question_id, e.format, e.path]
        assert e.completion[0].content == same.completion.strip()
    saved = run.load_settings()["sample"]
    assert (saved["chat"], saved["system"], saved["few_shot"]) == ("on", "Be brief.", "turns")


def test_a_plain_student_of_a_chat_teacher_learns_no_thinking(tmp_path):
    teacher = RunDir(tmp_path / "t")
    sampled(teacher.root)
    thought = "<think>\nHm, 7 * 8?\n</think>\n\n"
    paths = list(read_records(teacher.paths, Path))
    write_records(teacher.paths, [replace(p, text=thought + p.text.strip()) for p in paths])
    sampled_as(teacher, system="Be brief.", chat="on")
    vote_run(teacher, TALKING, VoteConfig())
    assert {type(e.prompt) for e in examples_of(teacher)} == {tuple}
    run = taught(teacher)
    assert {type(e.prompt) for e in examples_of(run)} == {str}
    assert not any("Hm" in e.completion for e in examples_of(run))
    assert run.load_settings()["sample"]["system"] == ""  # nothing to say it in


def test_the_folder_and_its_adapter_say_whose_they_are(teacher, tmp_path):
    sampled_as(teacher, adapter="x.gguf", adapter_sha256="ad")  # drew the teacher's paths
    run = taught(teacher)
    sample = run.load_settings()["sample"]
    assert sample["model_sha256"] == "5a11" and "adapter_sha256" not in sample
    assert teacher_of(run)["model_sha256"] == "aa"
    check_model(run, tmp_path / "small.gguf", "5a11")
    with pytest.raises(LmsiError, match="had other settings"):
        check_model(run, tmp_path / "a.gguf", "aa")
    write_atomic(run.adapter_gguf, b"")
    write_atomic(run.adapter_origin, msgspec.json.encode({"base_sha256": "5a11"}))
    learned = {e.question_id for e in examples_of(run)}
    assert learned and {q.id for q in trained_on(run.adapter_gguf)} == learned
    with pytest.raises(LmsiError, match="another model"):  # the teacher cannot wear it
        check_base(run.adapter_gguf, "aa")


@pytest.mark.parametrize(
    ("identity", "teacher_is", "share", "words"),
    [
        ({"model": "b.gguf", "model_sha256": "07"}, "aa", 0.0, "student: small.gguf in the run"),
        ({"task_sha256": "cc"}, "aa", 0.0, "task: number has changed since"),
        ({"chat": "on"}, "aa", 0.0, "chat: off in the run folder, on now"),
        ({}, "bb", 0.0, "teacher: a.gguf has changed since"),
        ({}, "aa", 0.9, "votes.jsonl has changed since"),
    ],
    ids=["student", "task", "form", "teacher", "vote"],
)
def test_a_folder_has_one_student_teacher_and_vote(teacher, identity, teacher_is, share, words):
    run = taught(teacher)
    write_atomic(run.adapter_gguf, b"")
    write_atomic(run.eval_result("test-1"), b"{}")
    before = tree(run.root)
    sampled_as(teacher, model_sha256=teacher_is)
    if share:
        voted(teacher.root, min_share=share)
    with pytest.raises(LmsiError, match=words) as e:
        taught(teacher, **identity)
    assert "--overwrite" in e.value.hint and tree(run.root) == before
    taught(teacher, overwrite=True, **identity)
    assert run.train.read_bytes() == teacher.train.read_bytes()
    assert not run.adapter_gguf.exists()
    # what was measured of the untaught student still holds for the same one
    assert run.eval_result("test-1").exists() == ("model" not in identity)


def test_a_vote_that_kept_nothing_or_lost_a_path_teaches_nothing(teacher):
    gone = max(e.path or 0 for e in examples_of(teacher) if e.question_id == "q0")
    paths = list(read_records(teacher.paths, Path))
    write_records(teacher.paths, [p for p in paths if (p.question_id, p.path) != ("q0", gone)])
    with pytest.raises(LmsiError, match="question 'q0': paths that the vote kept"):
        taught(teacher)
    voted(teacher.root, min_votes=9)
    with pytest.raises(LmsiError, match="the vote kept no path"):
        taught(teacher, overwrite=True)
    assert not RunDir(teacher.root.with_name("s")).train.exists()
