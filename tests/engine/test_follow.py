"""The second stage in the path's own cache, on the embedded model: as if read anew."""

import itertools

import chat_models
import msgspec
import pytest
from test_batched import QUESTIONS
from test_watch import Watch

from lmsi_cli.answers import second_stage
from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, Wanted, draw, path_seed
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.parse_output import REPLY, rationale, to_path, to_requests
from lmsi_cli.prompts import TWO_STAGES, Chat
from lmsi_cli.records import Question
from lmsi_cli.tasks.loader import load_task

pytestmark = pytest.mark.model
TASK = load_task("tinymath")
ASKED = [Question(id=f"q{i}", question=q) for i, q in enumerate(QUESTIONS)]
AGAIN = "Therefore, the answer (arabic numerals) is"


@pytest.fixture(scope="module")
def engine(gguf):
    with LlamaEngine(gguf, SamplingConfig(threads=1)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def talker(gguf, tmp_path_factory):
    file = tmp_path_factory.mktemp("talker") / "chatml.gguf"
    with LlamaEngine(
        chat_models.chat_model(gguf, file, chat_models.CHATML, blocks=2), SamplingConfig(threads=1)
    ) as loaded:
        yield loaded


def drawn(engine, task=TASK, paths=3, **settings):
    # one attention for all prompts, which the rule would choose by their length
    config = SamplingConfig(**{"threads": 1, "flash_attn": "off", **settings})
    engine.config = config
    asked = [
        r
        for q in ASKED
        for r in to_requests(
            engine, task, q, TWO_STAGES,
            [Wanted(k, path_seed(0, q.id, k)) for k in range(paths)], config.max_tokens,
        )
    ]  # fmt: skip
    found = list(draw(engine, asked, config, task.trigger))
    assert len(found) == paths * len(ASKED)
    return asked, found


def read_anew(engine, request, first):
    """The reply to the whole second prompt, greedily and alone."""
    encoded = request.follow.ask(first.text)
    alone = Request("q", tuple(encoded.ids), (Wanted(0, 0),), begun=encoded.begun)
    config = SamplingConfig(threads=1, temperature=0, max_tokens=request.follow.max_tokens)
    [reply] = engine.generate([alone], config, request.follow.trigger)
    return reply


@pytest.mark.parametrize(
    ("kv", "parallel", "max_tokens"), [("split", 8, 128), ("unified", 2, 128), ("unified", 32, 12)]
)
def test_the_reply_is_that_to_the_whole_prompt(engine, kv, parallel, max_tokens):
    asked, found = drawn(engine, kv=kv, parallel=parallel, max_tokens=max_tokens)
    assert sorted((g.question_id, g.path) for g in found) == [
        (q.id, k) for q, k in itertools.product(ASKED, range(3))
    ]
    for g in found:
        request = next(r for r in asked if r.question_id == g.question_id)
        alone = read_anew(engine, request, g.first)
        same = (g.text, g.stop_reason) == (alone.text, alone.stop_reason)
        assert same or (kv == "unified" and parted_by_rounding(engine, request, g, alone))
        assert g.tokens <= REPLY and g.first.tokens <= max_tokens
        assert g.text.startswith(AGAIN)


def parted_by_rounding(engine, request, one, other):
    """Whether two replies part at two tokens that are nearly tied.

    In a unified cache sums depend on where the cells lie (docs/performance.md).
    """
    ids = [[t.id for t in g.drawn] for g in (one, other)]
    at = next(i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b)
    before = [*request.follow.ask(one.first.text).ids, *ids[0][:at]]
    [logits] = engine.last_logits([before])
    return abs(logits[ids[0][at]] - logits[ids[1][at]]) < 0.01


def test_a_conversation_is_asked_in_a_further_turn(talker):
    task = msgspec.structs.replace(TASK, chat=Chat(few_shot="turns", system=""))
    asked, found = drawn(talker, task, max_tokens=24)
    for g in found:
        request = next(r for r in asked if r.question_id == g.question_id)
        alone = read_anew(talker, request, g.first)
        assert (g.text, g.stop_reason) == (alone.text, alone.stop_reason)
        path = to_path(g, task, ASKED[0].question)
        head = f"{rationale(g.first.text)}\n{AGAIN} "
        assert path.text == head + g.text.strip()


def test_one_path_holds_rationale_words_and_answer(engine):
    _, found = drawn(engine)
    for g in found:
        path = to_path(g, TASK, ASKED[0].question)
        words = second_stage(path.text, "number")
        assert path.text[: words.start] == g.first.text.rstrip()
        assert path.text[words.start + 1 :] == g.text
        assert path.num_generated_tokens == g.first.tokens + g.tokens
        kept = [t for t in g.first.drawn if t.start < words.start] + list(g.drawn)
        assert path.logprob == pytest.approx(sum(t.logprob for t in kept))
        assert path.extract_rule in ("second-stage", None)
        if path.predicted_answer is not None:
            assert path.answer_logprob < 0 and path.answer_logprob >= g.logprob - 1e-9


def test_a_memory_without_parts_is_read_anew(engine, monkeypatch):
    """Recurrent models cannot forget the end of a sequence."""
    _, cut = drawn(engine, kv="split", parallel=8)
    monkeypatch.setattr(LlamaContext, "cut", lambda *_: False)
    _, anew = drawn(engine, kv="split", parallel=8)
    assert [g.text for g in anew] == [g.text for g in cut]


def test_a_decided_question_leaves_its_second_stages(engine):
    config = SamplingConfig(threads=1, parallel=16, kv="split")
    engine.config, watch = config, Watch({"q0": 1}, blind=True)
    wanted = [Wanted(k, path_seed(0, "q0", k)) for k in range(16)]
    asked = to_requests(engine, TASK, ASKED[0], TWO_STAGES, wanted)
    found = []
    for g in engine.generate(asked, config, TASK.trigger, watch):
        found.append(g.path)
        watch.seen[g.question_id][g.path] = g.text
    assert found and watch.lost
    assert len(found) + len(watch.lost) == 16
    assert not {p for _, p, _ in watch.lost} & set(found)
