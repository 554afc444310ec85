"""The parts of the server engine that need no server: ends, places of tokens, addresses, keys."""

import asyncio
import contextlib

import pytest

from lmsi_cli.config import SamplingConfig
from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.server.client import FailedError, RefusedError, find_key, read_address
from lmsi_cli.engine.server.replies import Choice, Logprobs, Reply, TokenLogprob, Usage, finished
from lmsi_cli.engine.server.requests import Ask, Capabilities, context_in
from lmsi_cli.engine.server.scheduler import Scheduler
from lmsi_cli.errors import LmsiError


def path_of(text, why=None, tokens=None, **more):
    logprobs = tokens and Logprobs(content=tokens)
    choice = Choice(text=text, finish_reason=why, logprobs=logprobs, **more)
    return finished(Request("q", (), ()), Wanted(3, 7), choice, 5, "The answer is")


@pytest.mark.parametrize(
    ("text", "why", "kept", "reason"),
    [
        (" 2 + 2 = 4. The answer is 4.\n\nThat", "stop", 28, "answer"),
        (" The answer is 3.5 and", "length", None, "length"),
        (" 2 + 2\nQ: And 3?\nA: The answer is 9. So", "stop", 6, "next_question"),
        (" The answer is 4.\nQ: And", "length", 17, "answer"),
        ("<think>The answer is 5. Or", "length", None, "length"),
        ("<think>The answer is 5. Or</think> The answer is 4. So", "stop", 51, "answer"),
    ],
)
def test_a_text_is_cut_where_a_path_drawn_by_token_ends(text, why, kept, reason):
    path = path_of(text, why)
    assert (path.text, path.stop_reason, path.logprob) == (text[:kept], reason, None)


def test_a_stop_sequence_that_vllm_names_is_no_end_of_the_text():
    assert path_of(" 4", "stop", stop_reason="\nQ:").stop_reason == "next_question"


A_MINUS = [TokenLogprob("a", -1.0, [97])]
A_MINUS += [TokenLogprob("?", -2.0, [b]) for b in "\u2212".encode()]
WORDS = [TokenLogprob(t, -1.0) for t in (" The answer is", " 4", ".", "\n", "So")]


@pytest.mark.parametrize(
    ("tokens", "text", "starts"),
    [
        (A_MINUS, "a\u2212", [0, 1, 1, 1]),  # by their bytes, if these are told
        (WORDS, " The answer is 4.\nSo", [0, 14, 16]),  # up to the cut
        ([TokenLogprob(" The", -1.0), TokenLogprob("</s>", -1.0)], " The", [0]),
        ([TokenLogprob(" The", -1.0), TokenLogprob(" answer", -1.0)], " The question", []),
        ([TokenLogprob(" The", None)], " The", []),
        ([TokenLogprob(" The", float("nan"))], " The", []),
        ([TokenLogprob(" The", -3.4e38)], " The", []),
        ([TokenLogprob(" ", 1e308), TokenLogprob("The", 1e308)], " The", []),
    ],
)
def test_tokens_are_placed_where_they_spell_the_text(tokens, text, starts):
    path = path_of(text, "stop", tokens)
    assert [t.start for t in path.drawn] == starts
    assert path.logprob == (sum(t.logprob for t in path.drawn) if starts else None)


@pytest.mark.parametrize(
    ("told", "prompt", "wanted", "found"),
    [
        ("maximum context length is 1200 tokens; you requested 1190", 56, 1190, 1200),
        ("context of 128000 is exceeded by a total of at least 128001", 70_000, 65_535, 128_000),
        ("version 1.200 allows no more than the context has", 56, 700, None),
        ("9" * 5000, 56, 700, None),
        ("maximum context length is 8192, you requested 8904 (904 and 8000)", 0, 8000, None),
    ],
)
def test_the_context_is_found_in_a_refusal_whatever_its_words(told, prompt, wanted, found):
    assert context_in(told, prompt, wanted) == found


def test_a_bill_for_several_paths_is_shared_whole():
    choices = [Choice(text=text) for text in ("aaa", "b", "")]
    costs = Reply(choices, usage=Usage(completion_tokens=11)).costs
    assert sum(costs) == 11 and costs[0] > costs[2]
    assert Reply(choices[:1]).costs == [0]
    for odd in ("7", -5, 2**70, float("nan"), [7]):
        assert Reply(choices[:1], usage=Usage(odd, odd)).costs == [0]
    assert Reply(choices[:1], usage=Usage(completion_tokens=12.0)).costs == [12]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gpu:8000/v1", "http://"),
        ("ftp://gpu", "http://"),
        ("http://me:s3cret@gpu/v1", "run folder"),
        ("http://gpu:8000/v1?key=s3cret", "?"),
        ("http://gpu:eighty/v1", "address"),
        ("http://gpu:80000/v1", "http://"),
    ],
)
def test_addresses_that_are_none_are_refused_without_their_password(text, complaint):
    with pytest.raises(LmsiError, match="--base-url: ") as e:
        read_address(text)
    assert complaint in str(e.value)
    assert "s3cret" not in f"{e.value} {e.value.hint}"


def test_an_address_may_end_in_a_slash():
    assert str(read_address("HTTP://GPU/v1/")) == "http://gpu/v1"


OWN, THEIRS = {"LMSI_API_KEY": "own"}, {"OPENAI_API_KEY": "theirs"}


@pytest.mark.parametrize(
    ("file", "url", "environ", "key"),
    [
        ("key", "http://gpu/v1", OWN | THEIRS, "filed"),
        ("", "http://gpu/v1", OWN | THEIRS, "own"),
        ("", "https://api.openai.com/v1", OWN | THEIRS, "own"),
        ("", "https://api.openai.com/v1", THEIRS, "theirs"),
        ("", "http://gpu/v1", THEIRS, ""),
        ("", "http://api.openai.com", THEIRS, ""),
    ],
)
def test_where_a_key_comes_from(tmp_path, monkeypatch, file, url, environ, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("filed\n")
    (tmp_path / "key").chmod(0o600)
    assert find_key(file, read_address(url), environ) == key


@pytest.mark.parametrize("text", ["", "two words", "naïve", "a\nb"])
def test_what_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(LmsiError, match="LMSI_API_KEY") as e:
        find_key("", read_address("http://gpu"), {"LMSI_API_KEY": text})
    assert not text or text not in f"{e.value} {e.value.hint}"


def test_a_refusal_lowers_the_paths_of_a_request_only_if_so_many_never_came():
    can = Capabilities()
    wanted = tuple(Wanted(i, i) for i in range(8))
    ask = Ask("m", Request("q", (), (), asked="Q"), wanted, SamplingConfig(), 9)
    assert can.remedy(RefusedError(400, "no"), ask, {}) and can.most == 4
    can.answered(ask, Reply(choices=[Choice(text="4")] * 8))
    assert not can.remedy(RefusedError(400, "no"), ask, {}) and can.most == 4


def test_two_bad_questions_side_by_side_are_not_taken_for_a_dead_server():
    """Both fail after a reply came, and none comes between them."""
    asked = [Request(f"q{n}", (), (Wanted(0, 0),), asked="Q") for n in range(8)]
    one_came, both_failed, answered = asyncio.Event(), asyncio.Event(), []

    async def ask(request, wanted):
        number = int(request.question_id[1:])
        if number in (1, 2):
            await one_came.wait()
            raise FailedError("HTTP 500")
        if number == 3:  # sent when the reply to the first had been taken
            one_came.set()
            await both_failed.wait()
        if number == 5:  # sent when both had failed
            both_failed.set()
        answered.append(number)
        return Reply(choices=[Choice(text="4", finish_reason="stop")])

    async def drawn():
        scheduler = Scheduler(asked, ask, Capabilities(), 3, None, together=True)
        with contextlib.suppress(FailedError):  # nothing but those two is left, and they fail again
            while await scheduler.step("The answer is") is not None:
                pass

    asyncio.run(drawn())
    assert sorted(answered) == [0, 3, 4, 5, 6, 7]
