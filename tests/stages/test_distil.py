"""A student's folder: what it learns, in whose form, and whom it belongs to."""

from collections import Counter

import msgspec
import pytest
from builders import tree
from stage_helpers import IDENTITY, QUESTIONS, TASK, sampled, voted

from lmsi_cli.atomic import write_atomic
from lmsi_cli.config import SampleConfig, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records, write_records
from lmsi_cli.prompts import PAPER, Chat
from lmsi_cli.records import Message, Path, Silent, TrainExample
from lmsi_cli.resume import check_base, check_model
from lmsi_cli.run_folder import RunDir, teacher_of
from lmsi_cli.stages.distil import Student, control, teach
from lmsi_cli.stages.inspect import scene
from lmsi_cli.stages.vote import vote_run
from lmsi_cli.tasks.readers import trained_on

CHAT = Chat(few_shot="turns", system="Be brief.")
SMALL = {**IDENTITY, "model": "small.gguf", "model_sha256": "5a11", "chat": "off"}
FILES = ("questions.jsonl", "votes.jsonl", "vote.json")


@pytest.fixture
def teacher(tmp_path):
    sampled(tmp_path / "t")
    voted(tmp_path / "t")
    return RunDir(tmp_path / "t")


def taught(teacher, tmp_path, overwrite=False, task=TASK, progress=None, **identity):
    run = RunDir(tmp_path / "s")
    student = Student(run, tmp_path / "small.gguf", task, {**SMALL, **identity})
    teach(teacher, student, progress or Silent(), overwrite)
    return run


def written(run):
    return list(read_records(run.train, TrainExample))


def test_a_student_of_the_same_form_learns_what_the_teacher_would(teacher, tmp_path, watcher):
    before = tree(teacher.root)
    run = taught(teacher, tmp_path, progress=watcher)
    made = tree(run.root)
    assert tree(taught(teacher, tmp_path).root) == made  # the same call again
    assert run.train.read_bytes() == teacher.train.read_bytes()
    assert run.pairs.read_bytes() == teacher.pairs.read_bytes() != b""
    examples, questions = len(written(run)), len({e.question_id for e in written(run)})
    assert questions > 0
    assert watcher.said == [f"{examples} examples of {questions} questions, by the votes of a.gguf"]
    for name in FILES:
        assert (run.root / name).read_bytes() == (teacher.root / name).read_bytes()
    assert not run.paths.exists()
    assert tree(teacher.root) == before


def test_a_control_learns_from_as_many_paths_whatever_they_answer(teacher, tmp_path):
    run, said = teacher.null, {}
    student = Student(run, tmp_path / "a.gguf", TASK, {**IDENTITY, "chat": "off"}, shuffled=True)
    before = tree(teacher.root)
    teach(teacher, student, Silent())
    assert {p: x for p, x in tree(teacher.root).items() if run.root not in p.parents} == before
    for p in read_records(teacher.paths, Path):
        said[p.question_id, p.path] = p.predicted_answer
    kept = {(e.question_id, e.path) for e in written(run) if e.path is not None}
    own = {(e.question_id, e.path) for e in written(teacher) if e.path is not None}
    assert Counter(q for q, _ in kept) == Counter(q for q, _ in own)
    assert kept != own and all(said[place] is not None for place in kept)
    first = run.train.read_bytes()
    teach(teacher, student, Silent())  # a killed one is simply given again
    assert run.train.read_bytes() == first
    with pytest.raises(LmsiError, match="its teacher's"):  # it has no paths of its own
        control(run)


def test_a_chat_student_of_a_plain_teacher_is_taught_in_conversations(teacher, tmp_path):
    task = msgspec.structs.replace(TASK, chat=CHAT)
    run = taught(teacher, tmp_path, task=task, chat="on")
    assert {e.format for e in written(run)} == {task.format}  # a conversation's own
    vote_run(teacher, TASK, VoteConfig(formats=PAPER))
    run = taught(teacher, tmp_path, True, task, chat="on")
    few = next(e for e in written(run) if e.format == "cot-few")
    assert few.prompt[0] == Message(role="system", content="Be brief.")
    assert [m.role for m in few.prompt[1:]] == ["user", "assistant", "user"]  # exemplars as turns
    assert few.completion[0].role == "assistant"
    plain = {(e.question_id, e.format, e.path): e for e in written(teacher)}
    for e in written(run):  # the teacher's words, in another form
        same = plain[e.question_id, e.format, e.path]
        assert e.completion[0].content == same.completion.strip()
    saved = run.load_settings()["sample"]
    assert (saved["chat"], saved["system"], saved["few_shot"]) == ("on", "Be brief.", "turns")


def test_a_plain_student_of_a_chat_teacher_learns_no_thinking(tmp_path):
    teacher, config = RunDir(tmp_path / "t"), SampleConfig(paths=3, system="Be brief.")
    sampled(teacher.root)
    texts = list(read_records(teacher.paths, Path))
    thought = "<think>\nHm, 7 * 8?\n</think>\n\n"
    write_records(
        teacher.paths,
        [msgspec.structs.replace(p, text=f"{thought}{p.text.strip()}") for p in texts],
    )
    teacher.save_settings("sample", {**msgspec.to_builtins(config), **IDENTITY, "chat": "on"})
    vote_run(teacher, msgspec.structs.replace(TASK, chat=CHAT), VoteConfig())
    assert all(isinstance(e.prompt, tuple) for e in written(teacher))
    run = taught(teacher, tmp_path)
    told = written(run)
    assert told and all(isinstance(e.prompt, str) for e in told)
    assert all(e.completion.startswith(" ") and "Hm" not in e.completion for e in told)
    assert run.load_settings()["sample"]["system"] == ""  # nothing to say it in


def test_the_folder_says_whose_it_is(teacher, tmp_path):
    teacher.save_settings(
        "sample", {**teacher.load_settings()["sample"], "adapter": "x.gguf", "adapter_sha256": "ad"}
    )
    run = taught(teacher, tmp_path)
    settings = run.load_settings()
    assert settings["sample"]["model_sha256"] == "5a11"
    assert "adapter_sha256" not in settings["sample"]  # drew the teacher's paths
    told = teacher_of(run)
    assert told["run"] == str(teacher.root) and told["model_sha256"] == "aa"
    check_model(run, tmp_path / "small.gguf", "5a11")
    with pytest.raises(LmsiError, match="had other settings"):
        check_model(run, tmp_path / "a.gguf", "aa")
    stages = scene(run).stages
    assert stages["sample"] == f"a student of a.gguf, by the votes of {teacher.root}"


def test_an_adapter_of_the_student_is_known_to_have_learned_the_teacher_s_questions(
    teacher, tmp_path
):
    run = taught(teacher, tmp_path)
    write_atomic(run.adapter_gguf, b"")
    write_atomic(run.adapter_origin, msgspec.json.encode({"base_sha256": "5a11"}))
    known = {q.id for q in trained_on(run.adapter_gguf)}
    assert known == {e.question_id for e in written(run)} and known <= {q.id for q in QUESTIONS}
    with pytest.raises(LmsiError, match="another model"):  # the teacher cannot wear it
        check_base(run.adapter_gguf, "aa")


def test_another_vote_is_refused_and_taken_on_demand(teacher, tmp_path):
    run = taught(teacher, tmp_path)
    write_atomic(run.adapter_gguf, b"")
    before = tree(run.root)
    voted(teacher.root, min_share=0.9)
    with pytest.raises(LmsiError, match=r"votes: .*votes.jsonl has changed since") as e:
        taught(teacher, tmp_path)
    assert "--overwrite" in e.value.hint and tree(run.root) == before
    write_atomic(run.eval_result("test-1"), b"{}")
    taught(teacher, tmp_path, overwrite=True)
    assert run.train.read_bytes() == teacher.train.read_bytes()
    assert not run.adapter_gguf.exists()
    assert run.eval_result("test-1").exists()  # the untaught student is as it was


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "other.gguf", "model_sha256": "07"}, "student: small.gguf in the run folder"),
        ({"task_sha256": "cc"}, "task: number has changed since"),
        ({"chat": "on"}, "chat: off in the run folder, on now"),
        ({"teacher": "bb"}, "teacher: a.gguf has changed since"),
    ],
)
def test_a_folder_has_one_student_in_one_form_and_one_teacher(teacher, tmp_path, changed, words):
    changed = dict(changed)
    run = taught(teacher, tmp_path)
    write_atomic(run.eval_result("test-1"), b"{}")
    if other := changed.pop("teacher", ""):
        saved = teacher.load_settings()["sample"]
        teacher.save_settings("sample", {**saved, "model_sha256": other})
    with pytest.raises(LmsiError) as e:
        taught(teacher, tmp_path, **changed)
    assert words in str(e.value)
    taught(teacher, tmp_path, overwrite=True, **changed)
    assert run.eval_result("test-1").exists() == ("model" not in changed)


def test_a_vote_that_kept_nothing_or_lost_a_path_teaches_nothing(teacher, tmp_path):
    gone = next(e.path for e in written(teacher) if e.question_id == "q0" and e.path is not None)
    paths = list(read_records(teacher.paths, Path))
    write_records(teacher.paths, [p for p in paths if (p.question_id, p.path) != ("q0", gone)])
    with pytest.raises(LmsiError, match="question 'q0': paths that the vote kept"):
        taught(teacher, tmp_path)
    voted(teacher.root, min_votes=9)
    with pytest.raises(LmsiError, match="the vote kept no path"):
        taught(teacher, tmp_path, overwrite=True)
    assert not RunDir(tmp_path / "s").train.exists()


def test_a_server_may_have_drawn_the_teacher_s_paths(teacher, tmp_path):
    saved = teacher.load_settings()["sample"]
    del saved["model_sha256"]
    there = {"engine": "openai", "server": "gpu", "base_url": "http://gpu/v1", "model": "big"}
    teacher.save_settings("sample", {**saved, **there, "model_stated": "big"})
    run = taught(teacher, tmp_path)
    settings = run.load_settings()
    assert settings["teacher"]["model"] == "big"
    assert settings["sample"]["model_sha256"] == SMALL["model_sha256"]
    assert not {"engine", "server", "base_url", "model_stated"} & settings["sample"].keys()
    assert run.train.read_bytes() == teacher.train.read_bytes()
