"""The filters that look at texts, each by itself, and the presets."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.config import PAPER, PRESETS, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path
from lmsi_cli.settings import resolve
from lmsi_cli.voting import select, vote
from lmsi_cli.voting.classes import is_supported
from lmsi_cli.voting.texts import foreign_share, likeness, repetition

BARE = resolve(VoteConfig, {"preset": "paper"})
LOOP = " So it is 2." * 8 + " The answer is 2."


def path(index, text=" 1 + 1 = 2. The answer is 2.", tokens=20, answer="2"):
    return Path(
        question_id="q", path=index, seed=index, num_generated_tokens=tokens, logprob=-1.0,
        text=text, stop_reason="answer", predicted_answer=answer, extract_rule="marker",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "paths", "settings", "kept"),
    [
        ("min-margin", [path(0), path(1), path(2, answer="1")], {"min_margin": 0.4}, ()),
        ("length-outlier", [path(i, tokens=n) for i, n in enumerate([20, 22, 24, 90, 4])],
         {"max_length_ratio": 3}, (0, 1, 2)),
        ("repetition", [path(0), path(1, LOOP)], {"max_repetition": 0.5}, (0,)),
        ("language-switch", [path(0), path(1, " Это 1 + 1 = 2. The answer is 2."),
                             path(2, " By π and ∑ it is 2. The answer is 2.")],
         {"same_script": True}, (0, 2)),
        ("unsupported", [path(0), path(1, " 3 - 1 = 2. 2 + 5 = 7. The answer is 2."),
                         path(2, " It is 2.")], {"supported": True}, (0, 2)),
        ("near-duplicate", [path(0, " We add 1 + 1 = 2. The answer is 2."),
                            path(1, " So we add 1 + 1 = 2. The answer is 2."),
                            path(2, " 4 / 2 = 2. The answer is 2.")],
         {"max_likeness": 0.8}, (0, 2)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_each_filter_by_its_name(name, paths, settings, kept):
    off = select(vote("q", paths), paths, BARE, "How many?")
    assert sum(off.removed.values()) == off.removed["minority"]
    config = msgspec.structs.replace(BARE, **settings)
    on = select(vote("q", paths), paths, config, "How many?")
    assert on.vote.kept == kept
    lost = len(paths) - len(kept)
    assert {k: n for k, n in on.removed.items() if n} == {name: lost}
    assert on.samples[name].path not in kept


def test_without_knowing_what_was_asked_no_script_is_foreign():
    paths = [path(0, " Это 1 + 1 = 2.")]
    config = msgspec.structs.replace(BARE, same_script=True)
    assert select(vote("q", paths), paths, config).vote.kept == (0,)
    assert select(vote("q", paths), paths, config, "Сколько?").vote.kept == (0,)
    assert select(vote("q", paths), paths, config, "How many?").vote.kept == ()


def test_support():
    assert is_supported(path(0)) is True
    assert is_supported(path(0, " 1 + 1 = 2. The answer is 3.", answer="3")) is False
    assert is_supported(path(0, " 1 / 4 = 25%. The answer is 0.25.", answer="0.25")) is True
    assert is_supported(path(0, " Two.")) is None
    assert is_supported(path(0, answer="b")) is None


def test_measures():
    assert repetition("a b c d") == repetition("") == repetition("a b c") == 0
    assert repetition("so it is 4 so it is 4 so it is 4") == pytest.approx(5 / 9)
    assert foreign_share("So π is 3", "How much is pi?") == pytest.approx(1 / 5)
    assert foreign_share("2 + 2", "How many?") == 0
    assert foreign_share("これは漢字", "漢字") == 0
    assert likeness("we add 1 + 1 = 2", "so we add 1 + 1 = 2") == pytest.approx(5 / 6)
    assert likeness("yes", "yes") == 1 and likeness("yes", "no") == 0


@given(st.text(max_size=60), st.text(max_size=60))
def test_measures_are_shares(one, other):
    for share in (repetition(one), foreign_share(one, other), likeness(one, other)):
        assert 0 <= share <= 1
    assert likeness(one, one) == 1
    assert likeness(one, other) == likeness(other, one)
    assert foreign_share(one, one) == 0


def test_the_paper_keeps_every_majority_path_and_names_every_filter():
    about_files = {"preset", "formats", "seed", "pairs", "pair_share", "workers"}
    assert set(PAPER) == set(VoteConfig.__struct_fields__) - about_files
    assert PRESETS["default"].keys() == PAPER.keys()
    texts = [" 1 + 1 = 3.", " 1 + 1 = 3.", LOOP, " Это", " 2 + 5 = 7."]
    paths = [path(i, text, tokens=9 ** (i + 1)) for i, text in enumerate(texts)]
    assert select(vote("q", paths), paths, BARE, "How many?").vote.kept == (0, 1, 2, 3, 4)


def test_what_is_given_beats_a_preset_and_a_later_preset_beats_both():
    paper = {"preset": "paper"}
    own = resolve(VoteConfig, {**paper, "min_votes": 3})
    assert (own.min_votes, own.check_equations, own.max_paths_per_question) == (3, False, 0)
    assert resolve(VoteConfig, paper, {"min_share": 0.5}).min_share == 0.5
    assert resolve(VoteConfig, {"min_share": 0.5}, paper).min_share == 0
    back = resolve(VoteConfig, {**paper, "seed": 4}, {"preset": "default"})
    assert back == VoteConfig(seed=4)
    assert resolve(VoteConfig, {**paper, "min_votes": None}).min_votes == 1


def test_an_unknown_preset_or_class_is_refused_with_what_there_is():
    for given_, told in [
        ({"preset": "best"}, "--preset: expected one of default, paper, got 'best'"),
        ({"drop": ["near-miss"]}, "--drop: expected one or more of sound, unchecked, corrected, "
         "lucky, got 'near-miss'"),
        ({"keep": ["sound"]}, "--keep: expected one or more of corrected, lucky, near-miss, "
         "systematic, rival, other, got 'sound'"),
    ]:  # fmt: skip
        with pytest.raises(LmsiError) as e:
            resolve(VoteConfig, given_)
        assert str(e.value) == told
