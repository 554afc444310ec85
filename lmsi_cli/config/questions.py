"""The settings of ``lmsi questions``.

Knows no other command. Settings that are not given are those of ``[sample]``, by which the paths of
the generated questions are drawn; its temperature and its filters hold for paths alone, those of
``[questions]`` for the questions' own words. In a config file:

    [questions]
    seeds = 10
    temperature = 1.0
"""

from __future__ import annotations

from typing import Annotated

from lmsi_cli.config.options import opt
from lmsi_cli.config.sampling import HOTTEST, SamplingConfig
from lmsi_cli.records import ChatChoice, PromptFormat


class QuestionsConfig(SamplingConfig, frozen=True, kw_only=True):
    """Settings of ``lmsi questions``; where the defaults come from is in ``docs/questions.md``."""

    temperature: Annotated[
        float, opt("Temperature of the questions; that of paths: [sample].", ge=0, le=HOTTEST)
    ] = 1.0
    max_tokens: Annotated[int, opt("Longest question, in tokens.", ge=1)] = 256
    model: Annotated[
        str | None, opt("A GGUF file or a name; not given: as [sample].", "-m/--model")
    ] = None
    number: Annotated[int, opt("Questions to keep.", "-n/--number", ge=1)] = 100
    seeds: Annotated[int, opt("Questions to take from the file, at random.", ge=1)] = 10
    shots: Annotated[int, opt("Seed questions in each prompt, in random order.", ge=1)] = 4
    drafts: Annotated[int, opt("Questions drawn from each prompt.", ge=1)] = 4
    effort: Annotated[
        int, opt("Drafts at most, for each question to keep.", ge=1, le=10_000)
    ] = 10  # fmt: skip
    min_words: Annotated[int, opt("Drop questions of fewer words.", ge=1)] = 5
    max_likeness: Annotated[
        float,
        opt("Drop questions more like a seed, another one or an excluded one.", gt=0, le=1),
    ] = 0.7
    paths: Annotated[int, opt("Paths that vote on each question.", "--paths", ge=1)] = 8
    min_share: Annotated[
        float, opt("Drop questions whose winner has fewer of all paths.", ge=0, le=1)
    ] = 0.5
    prompt: Annotated[
        PromptFormat | None, opt("Prompt format of the paths; not given: as [sample].")
    ] = None
    task: Annotated[
        str | None, opt("Answer kind and exemplars; not given: as [sample].")
    ] = None  # fmt: skip
    chat: Annotated[
        ChatChoice | None, opt("Ask in conversations: auto, on, off; not given: as [sample].")
    ] = None
    adapter: Annotated[
        str | None, opt("GGUF adapter that writes and answers; not given: as [sample].")
    ] = None
