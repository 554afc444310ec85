"""The presets of the vote's settings."""

import pytest

from lmsi_cli.config import PAPER, PRESETS, VoteConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Path
from lmsi_cli.settings import resolve
from lmsi_cli.voting import select, vote

BARE = resolve(VoteConfig, {"preset": "paper"})
LOOP = " So it is 2." * 8 + " The answer is 2."


def path(index, text=" 1 + 1 = 2. The answer is 2.", tokens=20, answer="2"):
    return Path(
        question_id="q", path=index, seed=index, num_generated_tokens=tokens, logprob=-1.0,
        text=text, stop_reason="answer", predicted_answer=answer, extract_rule="marker",
    )  # fmt: skip


def test_the_paper_keeps_every_majority_path_and_names_every_filter():
    about_files = {"preset", "formats", "seed", "pairs", "pair_share", "workers"}
    assert set(PAPER) == set(VoteConfig.__struct_fields__) - about_files
    assert PRESETS["default"].keys() == PAPER.keys()
    texts = [" 1 + 1 = 3.", " 1 + 1 = 3.", LOOP, " Это", " 2 + 5 = 7."]
    paths = [path(i, text, tokens=9 ** (i + 1)) for i, text in enumerate(texts)]
    assert select(vote("q", paths), paths, BARE).vote.kept == (0, 1, 2, 3, 4)


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
