"""Records for tests, with all that does not matter to them filled in."""

import pytest

from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path, Preference, TrainExample, Vote


class Watcher:
    """A Progress that keeps what it is told; ``until`` interrupts after that many steps."""

    def __init__(self, until=None):
        self.until, self.labels, self.said, self.done, self.figures = until, [], [], [], []

    def start(self, label, total):
        self.labels.append((label, total))

    def advance(self, done, **figures):
        self.done.append(done)
        self.figures.append(figures)
        if done == self.until:
            raise KeyboardInterrupt

    def say(self, text):
        self.said.append(text)


def tree(folder):
    """All files below a folder, with what is in them."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(call, *given, told, hint="", **more):
    """A call ends in an LmsiError of one line with all words of ``told``, and its ``hint``.

    `` ... `` stands for the words in between; none in front, if the line begins with what is told.
    """
    with pytest.raises(LmsiError) as e:
        call(*given, **more)
    error, (first, *others) = f" {e.value}", f" {told}".split(" ... ")
    assert error.startswith(first) and "\n" not in error, error
    assert [words for words in others if words not in error] == [], error
    assert hint in e.value.hint


def path(index=0, answer="42", text=None, **more):
    """A path of question ``q`` that ended with its answer; ``more`` fields otherwise."""
    fields = {
        "question_id": "q", "path": index, "seed": index, "num_generated_tokens": 9,
        "logprob": -1.0, "stop_reason": "answer", "predicted_answer": answer,
        "extract_rule": "marker" if answer else None,
        "text": f" {index} + 1 = {index + 1}. The answer is {answer}." if text is None else text,
    }  # fmt: skip
    return Path(**fields | more)


def vote(question="q", answer="4", **more):
    """One path, one ballot, and that path is kept."""
    fields = {
        "question_id": question, "predicted_answer": answer, "majority_votes": 1,
        "runner_up_votes": 0, "total_votes": 1, "num_paths": 1, "no_answer": 0, "truncated": 0,
        "refuted": 0, "tie": False, "share": 1.0, "share_of_all": 1.0, "margin": 1.0,
        "ballots": {answer: 1}, "kept": (0,),
    }  # fmt: skip
    return Vote(**fields | more)


def example(question="q1", prompt="Q", completion=" 4", **more):
    """A line of train.jsonl."""
    fields = {"prompt": prompt, "completion": completion, "question_id": question}
    return TrainExample(**{"format": "cot-zero", "path": 0} | fields | more)


def preference(weight=0.5, question="q1", prompt="Q", chosen=" 4", rejected=" 5"):
    """A line of pairs.jsonl."""
    return Preference(
        prompt=prompt, chosen=chosen, rejected=rejected, weight=weight, format="cot-zero",
        question_id=question, chosen_path=0, rejected_path=1,
    )  # fmt: skip
