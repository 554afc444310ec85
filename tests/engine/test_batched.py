"""The batched sampler on the embedded model: beside plain decoding, and under a watch."""

from collections import defaultdict

import numpy as np
import pytest
from scipy.special import log_softmax

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, Wanted, path_seed
from lmsi_cli.engine.fast_copy import logits_along
from lmsi_cli.engine.paths import to_path
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model

TRIGGER = "The answer is"
QUESTIONS = [
    "Tom has 12 apples. Tom gets 7 more apples. How many apples does Tom have now?",
    "Anna buys 3 boxes of 14 pens each. How many pens does Anna have now?",
    "There are 40 chairs at the school. A quarter of them are red. How many chairs are not red?",
]


class Watch:
    """Calls a question decided when the first ``enough`` of its paths are there.

    It knows that they are needed from the beginning, or, with ``blind``, calls all of them needed.
    """

    def __init__(self, enough, blind=False):
        self.enough, self.blind = enough, blind
        self.seen, self.lost = defaultdict(set), []

    def needed(self, question_id):
        return 99 if self.blind else self.enough.get(question_id, 99)

    def decided(self, question_id):
        return set(range(self.enough.get(question_id, 99))) <= self.seen[question_id]

    def cancelled(self, question_id, path, tokens):
        self.lost.append((question_id, path, tokens))


def requests(engine, paths):
    return [
        Request(
            f"q{i}",
            tuple(engine.encode(f"Q: {q}\nA: Let's think step by step.")),
            tuple(Wanted(j, path_seed(0, f"q{i}", j)) for j in range(paths)),
        )
        for i, q in enumerate(QUESTIONS)
    ]


def drawn(engine, paths, watch=None, trigger=TRIGGER, **settings):
    """The paths by question and number, none of them twice."""
    config = SamplingConfig(**{"threads": 1, **settings})  # two would spin on a busy machine
    engine.config, found = config, {}
    for g in engine.generate(requests(engine, paths), config, trigger, watch):
        assert (g.question_id, g.path) not in found
        found[g.question_id, g.path] = g
        if watch is not None:
            watch.seen[g.question_id].add(g.path)
    return found


@pytest.fixture(scope="module")
def plain(engine):
    """The greedy path of each question, a token at a time and everything read anew."""
    found = {}
    for request in requests(engine, 1):
        tokens, text = list(request.prompt), b""
        while not text.rstrip().endswith(b".") or TRIGGER.encode() not in text:
            token = int(engine.last_logits([tokens])[0].argmax())
            tokens.append(token)
            text += engine.model.piece(token)
        found[request.question_id] = text.decode()
    return found


@pytest.mark.parametrize(
    ("kv", "parallel"),
    [("unified", 1), ("unified", 2), ("unified", 8), ("split", 2), ("split", 8), ("split", 32)],
)
def test_greedy_paths_equal_plain_decoding_at_any_width(engine, plain, kv, parallel):
    """Two slots are handed on to the third question; eight close their gaps at the end."""
    paths = drawn(engine, 3, temperature=0, kv=kv, parallel=parallel)
    assert {key: g.text for key, g in paths.items()} == {
        (q, n): text for q, text in plain.items() for n in range(3)
    }


def test_paths_end_at_their_answer_and_equal_seeds_give_equal_paths(engine):
    paths = drawn(engine, 6)
    assert len(paths) == 18 and drawn(engine, 6) == paths
    answered = [g.text for g in paths.values() if g.stop_reason == "answer"]
    assert answered and not any("\nQ:" in g.text for g in paths.values())
    assert all(text.endswith(".") and text.count(TRIGGER) == 1 for text in answered)


def test_a_path_drawn_alone_is_the_same_to_the_bit_in_a_split_cache(engine):
    """As for a resumed run that lacks one path; a cache with a single slot pads no rows."""
    config = engine.config = SamplingConfig(threads=1, max_tokens=24, kv="split", flash_attn="off")
    asked = requests(engine, 3)
    whole = list(engine.generate(asked, config, TRIGGER))
    for path in asked[1].wanted:
        left = [r._replace(wanted=(path,) * (r is asked[1])) for r in asked]
        (alone,) = engine.generate(left, config, TRIGGER)
        assert alone in whole


def test_log_probabilities_are_those_of_the_whole_text_read_at_once(engine):
    """One prompt is longer than a batch, and read in pieces."""
    long = tuple(engine.encode("Q: " + "Tom has 3 apples. " * 120 + "How many apples?\nA:"))
    asked = [*requests(engine, 2), Request("long", long, (Wanted(0, 1),))]
    prompts = {r.question_id: r.prompt for r in asked}
    found = list(engine.generate(asked, SamplingConfig(threads=1, max_tokens=99), TRIGGER))
    assert len(long) > 512 and len(found) == 7
    for g in found:
        prompt, ids = prompts[g.question_id], [t.id for t in g.drawn]
        parts = logits_along(engine.model, (*prompt, *ids), 1)
        whole = log_softmax(np.concatenate([part.copy() for part in parts]), axis=1)
        theirs = whole[len(prompt) - 1 : -1][np.arange(len(ids)), ids]
        assert [t.logprob for t in g.drawn] == pytest.approx(theirs, abs=0.01)
        assert g.logprob == pytest.approx(theirs.sum(), abs=0.03)


def test_without_a_trigger_no_sentence_ends_a_path(engine, plain):
    """Texts that are compared with another engine's have no answer to stop at."""
    for (question, _), g in drawn(engine, 1, trigger="", temperature=0, max_tokens=60).items():
        assert g.stop_reason != "answer"
        assert g.text.startswith(plain[question]) or (g.stop_reason, g.tokens) == ("length", 60)


def test_an_answer_stops_a_path_behind_its_thinking_block_alone(engine):
    def begun(block):
        prompt = tuple(engine.encode(f"Q: {QUESTIONS[0]}\nA:"))
        request = Request("q", prompt, (Wanted(0, 1),), begun=block)
        config = SamplingConfig(threads=1, temperature=0, max_tokens=48)
        (found,) = engine.generate([request], config, TRIGGER)
        return found, to_path(found, load_task("number")).predicted_answer

    still, answer = begun("<think>\n")
    assert still.text.startswith("<think>\n") and TRIGGER in still.text
    assert still.stop_reason in ("length", "eos") and answer is None
    thought = "<think>\nThe answer is 5.\nQ: or so\n</think>\n\n"
    (plain, answer), (closed, its) = begun(""), begun(thought)
    assert closed == plain._replace(text=thought + plain.text, drawn=closed.drawn)
    assert plain.stop_reason == "answer" and its == answer


# -- under a watch, decided questions are left, and nothing else is disturbed -----------------


def test_a_decided_question_is_left_and_disturbs_no_other(engine, plain):
    """Greedy, so that a path depends on its question alone."""
    watch = Watch({"q1": 2, "q2": 3}, blind=True)
    found = drawn(engine, 8, watch, temperature=0, parallel=5, kv="unified")
    assert all(g.text == plain[question] for (question, _), g in found.items())
    assert watch.seen["q0"] == set(range(8))
    assert watch.decided("q1") and watch.decided("q2") and watch.lost
    assert not {(q, p) for q, p, _ in watch.lost} & found.keys()
    assert all(tokens > 0 for _, _, tokens in watch.lost)


@pytest.mark.parametrize("parallel", [1, 4])
def test_while_another_question_waits_nothing_is_begun_in_vain(engine, parallel):
    """q2 needs all of its paths, so that no slot is idle before q0 and q1 are decided."""
    watch = Watch({"q0": 3, "q1": 2})
    drawn(engine, 8, watch, parallel=parallel)
    assert not watch.lost
    assert [len(watch.seen[f"q{i}"]) for i in range(3)] == [3, 2, 8]


def test_idle_slots_take_what_may_be_in_vain(engine):
    watch = Watch({"q0": 2, "q1": 2, "q2": 2})
    found = drawn(engine, 8, watch, parallel=12)
    assert len(found) + len(watch.lost) >= 12
    assert {q for q, *_ in watch.lost} == {"q0", "q1", "q2"}  # they share them
