"""The parts of the server engine that need no server: waits, cuts, places, addresses, keys."""

import pickle

import msgspec
import pytest

from lmsi_cli.engine.base import Request, Wanted
from lmsi_cli.engine.server.client import Key, find_key, is_open, read_address, retry_after
from lmsi_cli.engine.server.replies import costs, cut_of, finished, limit_in, placed
from lmsi_cli.engine.server.wire import Choice, Logprobs, Reply, TokenLogprob
from lmsi_cli.errors import LmsiError

TRIGGER = "The answer is"


@pytest.mark.parametrize(("told", "seconds"), [("20", 20.0), ("-3", 0.0), ("soon", 0.0), ("", 0.0)])
def test_retry_after(told, seconds):
    assert retry_after({"retry-after": told} if told else {}) == seconds


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


A_MINUS = [TokenLogprob("a", -1.0, [97])]
A_MINUS += [TokenLogprob("?", -2.0, [b]) for b in "\u2212".encode()]


@pytest.mark.parametrize(
    ("tokens", "text", "starts"),
    [
        (A_MINUS, "a\u2212", [0, 1, 1, 1]),  # by their bytes, if these are told
        ([TokenLogprob(" The", -1.0), TokenLogprob("</s>", -1.0)], " The", [0]),
        ([TokenLogprob(" The", -1.0), TokenLogprob(" answer", -1.0)], " The question", []),
        ([TokenLogprob(" The", None)], " The", []),
        ([TokenLogprob(" The", float("nan"))], " The", []),
    ],
)
def test_tokens_are_placed_where_they_spell_the_text(tokens, text, starts):
    assert [t.start for t in placed(tokens, text)] == starts


def test_a_path_keeps_the_tokens_before_its_cut_and_pays_for_all():
    logprobs = Logprobs(tokens=[" The answer is", " 4", ".", "\n", "So"],
                        token_logprobs=[-1.0, -0.5, -0.25, -8.0, -8.0])  # fmt: skip
    choice = Choice(text=" The answer is 4.\nSo", finish_reason="length", logprobs=logprobs)
    path = finished(Request("q", (), ()), Wanted(3, 7), choice, 5, TRIGGER)
    assert (path.text, path.stop_reason, path.tokens) == (" The answer is 4.", "answer", 5)
    assert (path.path, path.seed, path.logprob, len(path.drawn)) == (3, 7, -1.75, 3)
    bare = finished(Request("q", (), ()), Wanted(0, 1), Choice(text=" 4.\n"), 2, TRIGGER)
    assert (bare.logprob, bare.drawn) == (None, ())


@pytest.mark.parametrize(
    ("told", "prompt", "wanted", "found"),
    [
        ("maximum context length is 600 tokens; you requested 756 (56 + 700)", 56, 700, 600),
        ("maximum context length is 1200 tokens; you requested 1190", 56, 1190, 1200),
        ("context of 128000 is exceeded by a total of at least 128001", 70_000, 65_535, 128_000),
        ("version 1.200 allows no more than the context has", 56, 700, None),
        ("9" * 5000, 56, 700, None),
    ],
)
def test_the_context_is_found_in_a_refusal_whatever_its_words(told, prompt, wanted, found):
    assert limit_in(told, prompt, wanted) == found


def test_a_bill_for_several_paths_is_shared_whole():
    told = {"choices": [{"text": "aaa"}, {"text": "b"}, {"text": ""}]}
    reply = msgspec.convert({**told, "usage": {"completion_tokens": 11}}, Reply)
    assert sum(costs(reply)) == 11
    assert costs(reply)[0] > costs(reply)[2]
    assert costs(Reply(choices=[Choice(text="a")])) == [0]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "address"),
        ("gpu:8000/v1", "http://"),
        ("ftp://gpu", "http://"),
        ("http://me:s3cret@gpu/v1", "run folder"),
        ("https://me:s3cret@", "http://"),
        ("http://gpu:8000/v1?key=s3cret", "?"),
        ("http://gpu:eighty/v1", "address"),
        ("http://gpu:80000/v1", "http://"),
        ("http://ä..b/v1", "address"),
    ],
)
def test_addresses_that_are_none(text, complaint):
    with pytest.raises(LmsiError) as e:
        read_address(text)
    assert complaint in str(e.value) and "--base-url" in f"{e.value} {e.value.hint}"
    if "@" in text:
        assert "s3cret" not in f"{e.value} {e.value.hint}"


def test_addresses():
    assert str(read_address("HTTP://GPU/v1/")) == "http://gpu/v1"
    assert str(read_address("https://[::1]:8443")) == "https://[::1]:8443"
    assert is_open(read_address("http://gpu"))
    assert not is_open(read_address("http://localhost"))
    assert not is_open(read_address("https://gpu"))


def test_a_key_does_not_show():
    key = Key("sk-123")
    assert "123" not in f"{key} {key!r}"
    assert key.hide("no such key: sk-123!") == "no such key: [key]!"
    with pytest.raises(TypeError):
        pickle.dumps(key)


OWN, THEIRS = {"LMSI_API_KEY": "own"}, {"OPENAI_API_KEY": "theirs"}


@pytest.mark.parametrize(
    ("file", "url", "environ", "header"),
    [
        ("key", "http://gpu/v1", OWN | THEIRS, {"Authorization": "Bearer filed"}),
        ("", "http://gpu/v1", OWN | THEIRS, {"Authorization": "Bearer own"}),
        ("", "https://api.openai.com/v1", OWN | THEIRS, {"Authorization": "Bearer own"}),
        ("", "https://api.openai.com/v1", THEIRS, {"Authorization": "Bearer theirs"}),
        ("", "http://gpu/v1", THEIRS, {}),
        ("", "http://api.openai.com", THEIRS, {}),
    ],
)
def test_where_a_key_comes_from(tmp_path, monkeypatch, file, url, environ, header):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("filed\n")
    (tmp_path / "key").chmod(0o600)
    assert find_key(file, read_address(url), environ).header() == header


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_that_others_can_read_is_refused(tmp_path, mode):
    file = tmp_path / "key"
    file.write_text("filed")
    file.chmod(mode)
    with pytest.raises(LmsiError) as e:
        find_key(str(file), read_address("http://gpu"), {})
    assert e.value.hint == f"chmod 600 {file}"


@pytest.mark.parametrize("text", ["", "two words", "naïve", "a\nb"])
def test_what_is_no_key_is_refused_without_being_shown(text):
    with pytest.raises(LmsiError, match="LMSI_API_KEY") as e:
        find_key("", read_address("http://gpu"), {"LMSI_API_KEY": text})
    assert not text or text not in f"{e.value} {e.value.hint}"
