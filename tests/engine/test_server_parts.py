"""The parts of the server engine that need no server: waits, cuts, places, addresses, keys."""

import pickle

import msgspec
import pytest

from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.server.address import Address
from lmsi_cli.engine.server.api_key import Key, find_key
from lmsi_cli.engine.server.context import limit_in
from lmsi_cli.engine.server.retry import Circuit, backoff, retry_after
from lmsi_cli.engine.server.truncate import costs, cut_of, finished, placed
from lmsi_cli.engine.server.wire import Choice, Logprobs, Reply, Said, TokenLogprob
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path

TRIGGER = "The answer is"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, 0.0),
        # by the server's clock, which is a year off ours
        ({"retry-after": "Wed, 21 Oct 2015 07:28:40 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"},
         40.0),
    ],
)  # fmt: skip
def test_retry_after_in_all_its_forms(headers, seconds):
    assert retry_after(headers) == seconds


def test_waits_double_up_to_half_a_minute_and_differ_by_chance():
    assert [backoff(n, 1.0) for n in (1, 2, 3, 7, 8, 500)] == [0.5, 1, 2, 30, 30, 30]
    assert backoff(3, 0.0) == 1.0


def test_requests_that_fail_together_count_once():
    circuit = Circuit(bearable=2)
    assert [circuit.failed(begun=0.0, now=1.0 + i / 10) for i in range(8)] == [False] * 8
    assert not circuit.failed(begun=2.0, now=3.0)
    assert circuit.failed(begun=3.5, now=4.0)
    circuit.succeeded()
    assert not circuit.failed(begun=5.0, now=6.0)


@pytest.mark.parametrize(
    ("text", "why", "kept", "reason"),
    [
        (" 2 + 2 = 4. The answer is 4.", "stop", None, "eos"),
        (" 2 + 2 = 4. The answer is 4.\n\nThat", "stop", 28, "answer"),
        (" The answer is 3.5 and", "length", None, "length"),
        (" 2 + 2\nQ: And 3?\nA: The answer is 9. So", "stop", 6, "next_question"),
        (" The answer is 4.\nQ: And", "length", 17, "answer"),
        ("<think>The answer is 5. Or", "length", None, "length"),
        ("<think>The answer is 5. Or</think> The answer is 4. So", "stop", 51, "answer"),
        (" four", "content_filter", None, "length"),
    ],
)
def test_a_text_is_cut_where_a_path_drawn_by_token_ends(text, why, kept, reason):
    assert cut_of(text, Choice(text=text, finish_reason=why), TRIGGER) == (kept, reason)


def test_a_stop_sequence_that_vllm_names_is_told_from_the_end_of_the_text():
    choice = Choice(text=" 4", finish_reason="stop", stop_reason="\nQ:")
    assert cut_of(" 4", choice, TRIGGER).reason == "next_question"


def told(*pairs):
    return [TokenLogprob(t, p) for t, p in pairs]


def test_tokens_are_placed_by_their_bytes_if_these_are_told():
    minus = "\u2212".encode()
    each = [TokenLogprob("a", -1.0, [97]), *(TokenLogprob("?", -2.0, [b]) for b in minus)]
    assert [t.start for t in placed(each, "a\u2212")] == [0, 1, 1, 1]


def test_tokens_that_do_not_spell_the_text_are_none():
    assert placed(told((" The", -1.0), (" answer", -1.0)), " The question") == []
    assert placed(told((" The", None)), " The") == []
    assert placed(told((" The", float("nan"))), " The") == []
    assert len(placed(told((" The", -1.0), ("</s>", -1.0)), " The")) == 1


def test_a_path_keeps_the_tokens_before_its_cut_and_pays_for_all():
    logprobs = Logprobs(tokens=[" The answer is", " 4", ".", "\n", "So"],
                        token_logprobs=[-1.0, -0.5, -0.25, -8.0, -8.0])  # fmt: skip
    choice = Choice(text=" The answer is 4.\nSo", finish_reason="length", logprobs=logprobs)
    path = finished(Request("q", (), ()), Wanted(3, 7), choice, 5, TRIGGER)
    assert (path.text, path.stop_reason, path.tokens) == (" The answer is 4.", "answer", 5)
    assert (path.path, path.seed, path.logprob, len(path.drawn)) == (3, 7, -1.75, 3)


def test_without_log_probabilities_a_path_has_none():
    path = finished(Request("q", (), ()), Wanted(0, 1), Choice(text=" 4.\n"), 2, TRIGGER)
    assert path.logprob is None
    assert path.drawn == ()


def test_thinking_that_a_server_put_apart_is_told_in_its_marks():
    assert Choice(message=Said(content=" 4.", reasoning="2 + 2")).whole == "<think>2 + 2</think> 4."
    assert Choice(message=Said(reasoning_content="2 + ")).whole == "<think>2 + "
    assert Choice(message=Said()).whole == ""


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("maximum context length is 600 tokens; you requested 756 (56 + 700)", 600),
        ("maximum context length is 1200 tokens; you requested 1190", 1200),
        ("context of 128000 is exceeded by a total of at least 128001", 128000),
        ("version 1.200 allows no more than the context has", None),
        ("9" * 5000, None),
    ],
)
def test_the_context_is_found_in_a_refusal_whatever_its_words(told, found):
    wanted = 65535 if found == 128000 else 1190 if found == 1200 else 700
    prompt = 70_000 if found == 128000 else 56
    assert limit_in(told, prompt, wanted) == found


def test_a_bill_for_several_paths_is_shared_whole():
    reply = msgspec.convert(
        {
            "choices": [{"text": "aaa"}, {"text": "b"}, {"text": ""}],
            "usage": {"completion_tokens": 11},
        },
        Reply,
    )
    assert sum(costs(reply)) == 11
    assert costs(reply)[0] > costs(reply)[2]
    assert costs(Reply(choices=[Choice(text="a")])) == [0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "needs the server's address"),
        ("gpu:8000/v1", "expected an http:// or https://"),
        ("ftp://gpu", "expected an http:// or https://"),
        ("http://me:s3cret@gpu/v1", "would be written to the run folder"),
        ("https://me:s3cret@", "expected an http:// or https://"),
        ("http://gpu:8000/v1?key=s3cret", "with ? or #"),
        ("http://gpu:eighty/v1", "no address"),
    ],
)
def test_addresses_that_are_none(text, complaint):
    with pytest.raises(LmsiError, match=complaint.replace("?", r"\?")) as e:
        Address.parse(text)
    if "@" in text:
        assert "s3cret" not in f"{e.value} {e.value.hint}"


def test_addresses():
    assert Address.parse("HTTP://GPU/v1/") == ("http", "gpu", 80, "/v1")
    assert Address.parse("https://[::1]:8443").url == "https://[::1]:8443"
    assert Address.parse("http://gpu").open
    assert not Address.parse("http://localhost").open


def test_a_key_does_not_show(tmp_path):
    key = Key("sk-123")
    assert "123" not in f"{key} {key!r} {vars(key)!r}".replace("_Key__secret': 'sk-123'", "")
    assert key.hide("no such key: sk-123!") == "no such key: [key]!"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_where_a_key_comes_from(tmp_path):
    here, openai = Address.parse("http://gpu/v1"), Address.parse("https://api.openai.com/v1")
    both = {"LMSI_API_KEY": "own", "OPENAI_API_KEY": "theirs"}
    file = tmp_path / "key"
    file.write_text("filed\n")
    file.chmod(0o600)
    assert find_key(str(file), here, both).header() == "Bearer filed"
    assert find_key("", here, both).header() == "Bearer own"
    assert find_key("", openai, {"OPENAI_API_KEY": "theirs"}).header() == "Bearer theirs"
    assert not find_key("", here, {"OPENAI_API_KEY": "theirs"})
    assert not find_key("", Address.parse("http://api.openai.com"), {"OPENAI_API_KEY": "theirs"})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    file = tmp_path / "key"
    file.write_text("filed")
    file.chmod(mode)
    with pytest.raises(LmsiError, match="others may read") as e:
        find_key(str(file), Address.parse("http://gpu"), {})
    assert e.value.hint == f"chmod 600 {file}"


@pytest.mark.parametrize("text", ["", "two words", "naïve", "a\nb"])
def test_what_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(LmsiError, match="LMSI_API_KEY: this holds no key") as e:
        find_key("", Address.parse("http://gpu"), {"LMSI_API_KEY": text})
    assert not text or text not in f"{e.value} {e.value.hint}"


def test_paths_with_and_without_log_probabilities_are_read():
    line = {"question_id": "q", "path": 0, "seed": 1, "text": "x", "num_generated_tokens": 1,
            "stop_reason": "eos", "predicted_answer": None, "extract_rule": None}  # fmt: skip
    assert msgspec.convert({**line, "logprob": -1.5}, Path).logprob == -1.5
    assert msgspec.convert({**line, "logprob": None}, Path).logprob is None
    with pytest.raises(msgspec.ValidationError, match="logprob"):
        msgspec.convert(line, Path)
