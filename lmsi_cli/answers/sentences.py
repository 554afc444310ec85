r"""Where an answer sentence begins and ends, in a whole text and in one that still grows.

Knows the words before an answer, full stops that end nothing ("Rs. 500", "J. R. R. Tolkien") and
lists; nothing of values. Sampling asks after every token, so an end must be found at once in the
ordinary case, and never within an answer:

    markers("So 6 * 7 = 42. The answer is 42.", "The answer is")
    -> [Said(at=15, place=Span(29, 31))]
    answer_end(" The answer is Rs. 500", "The answer is")  -> None: it may go on

A model that does not stop goes on to another question, or writes both sides of a conversation;
what follows is not its answer. A reply may also begin by repeating its own question, which is
not a next one:

    before_run_on("That makes 12.\n\nUser: And 7 + 8?\nAssistant: 15") -> "That makes 12.\n"
    before_run_on("Question: 6 * 2?\nAnswer: 12") -> all of it
    before_run_on("Sure, here it is:\n\n**Question:** 6 * 2?\n12") -> all of it
"""

from __future__ import annotations

import re
from functools import lru_cache

from lmsi_cli.answers.places import MOST, TRIGGER, Said, Span

# What may stand between "The answer is" and the value: spaces, a colon, emphasis, display maths.
LEAD = r"(?:[\s:*_`]|\\\[|\\\(|\$\$)*+"
_STOP = re.compile(r"[.!?\n]")
# A word, or two of three dots, directly before a full stop.
_WORD = re.compile(r"(?<![^\W\d_])[^\W\d_]+(?:\.[^\W\d_]+)*\Z|\.\.\Z")
_WORD_BACK = 12  # characters
# A name follows these.
_TITLES = re.compile(
    "Dr|Mr|Mrs|Ms|Prof|St|Mt|Ft|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Pres|Sen|Rep|Messrs|Mme"
)
# A number or small letters follow these, if anything does; "no" is mostly a whole answer.
_SHORT = re.compile(
    r"(?i:no|nos|rs|approx|ca|fig|eq|vol|pp|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
    r"|vs|etc|e\.g|i\.e|inc|ltd|co|corp|jr|sr|sq|cu|avg|max|min|est|dept|a\.m|p\.m"
    r"|ft|in|yds?|mi|lbs?|oz|pt|qt|gal|hrs?|mins?|secs?)|\.\."
)
_INITIALS = re.compile(r"(?!I\Z)[A-Z](?:\.[A-Z])*")
_CHOICE = "ABCDE"  # as a letter alone, one of these is an option rather than an initial
_OPENERS = re.compile(  # of a new sentence, in place of a name after an initial
    "The|This|That|These|Those|There|They|Their|Then|Therefore|Thus|So|Hence|Since|Because|It"
    "|Its|He|She|His|Her|We|I|You|A|An|In|On|At|If|As|And|But|Or|Note|To|For|From|Let|Here|How"
    "|However|Now|When|Each|Also|Option|Answer|Explanation|Both|Another|With|Step|First|Finally"
    "|After|Q"
)
_FIRST_ITEM = re.compile(r"[ \t]*(?:[-\u2022+*]|\(?1[.)])[ \t]+(?=\S)")
_FIRST_LABEL = re.compile(r"[ \t]*\(?1[.)][ \t]*\Z")  # "1." may yet become an item
_ITEM = re.compile(r"(?:[-\u2022+*]|\(?[0-9]{1,2}[.)])[ \t]")
_BREAK = re.compile(r"\n+|(?<=[.!?])[ \t]+(?=[A-Z\\$*(\[\"'])")
# What a chat model adds behind its answer.
_CLOSING = re.compile(
    r"[\s*_(>#-]*(?:let me know|i hope|hope (?:this|that)|feel free|(?:please )?note\b|confidence\b"
    r"|if you (?:have|need|want|would)|would you like|is there anything)",
    re.IGNORECASE,
)
# A fenced program, whose numbers are no answer; what it printed may be.
_PROGRAM = re.compile(r"```(?!output|text|plain|txt|console|latex|math|markdown)[a-z+#]+[ \t]*\n")
_KNOWN = 4  # characters of a line that tell whether it is an item
_NO_MORE = "\n" + _KNOWN * "\0"  # behind a finished text: decides what waits for a next token


@lru_cache(maxsize=64)
def opening(words: str) -> re.Pattern[str]:
    """Match the trigger in any case and spacing, as whole words ("isn't" is not "is").

    In an indirect question it does not count: "Let us check whether the answer is right."
    """
    words = " ".join(words.split())
    c, rest = re.escape(words[:1]), re.escape(words[1:]).replace(r"\ ", r"\s+")
    close = r"(?!\w)" if words[-1:].isalnum() else ""
    # The lookbehinds follow the first letter, so that they only run where it is found: quicker.
    before = rf"(?<!\w{c})(?<!\bif {c})(?<!\bwhether {c})(?<!\bwhat {c})"
    return re.compile(rf"{c}{before}{rest}{close}{LEAD}", re.IGNORECASE)


def markers(text: str, trigger: str) -> list[Said]:
    """Places: the rest of each answer sentence."""
    found = list(opening(trigger).finditer(text))[-MOST:]
    return [Said(m.start(), said_after(text, *m.span())) for m in found]


def said_after(text: str, begin: int, start: int) -> Span:
    """The rest of a sentence in a finished text; its opening words are ``text[begin:start]``."""
    stop = _end(text + _NO_MORE, begin, start)
    return Span(start, stop.start if stop else len(text))


def answer_end(text: str, trigger: str = TRIGGER, start: int = 0) -> int | None:
    """Find where the first answer sentence of a growing text ends; ``None`` if it may go on.

    Sampling asks this after every token. A "." at the very end does not count: the next token
    may turn "3." into "3.5". A newline ends the sentence, too, unless it stands
    in a list or after a colon; it is not part of the sentence.

    Args:
        text: The path so far.
        trigger: The words before an answer.
        start: Search from here, which must not lie beyond the trigger's first letter. Until that is
            found, ``max(0, length before the last token - len(trigger) - 2)`` is safe.
    """
    found = opening(trigger).search(text, start)
    if found is None:
        return None
    turn = next_turn(text, found.start())
    if found.end() >= (len(text) if turn is None else turn):
        return None
    stop = _end(text if turn is None else text[:turn] + _NO_MORE, *found.span())
    return stop.end if stop else turn


def _end(text: str, begin: int, start: int) -> Span | None:
    """Find what ends a sentence: a stop, or an empty span at a newline; None if it may go on."""
    line = text.rfind("\n", begin, start) + 1  # of the last line that begins between them, or 0
    listed = bool(line and _FIRST_ITEM.match(text, line))
    if line and _FIRST_LABEL.match(text, line):
        return None
    for stop in _STOP.finditer(text, start):
        at = stop.start()
        if stop[0] == "\n":
            on = _line_goes_on(text, start, at, listed)
        elif listed and text[text.rfind("\n", 0, at) + 1 : at].strip(" \t(").isdigit():
            on = True  # the label of an item
        elif stop[0] == ".":
            on = _stop_goes_on(text, start, at)
        else:
            on = _mark_goes_on(text, at)
        if on is None:
            return None
        if not on:
            return Span(at, at + (stop[0] != "\n"))
    return None


# Whether a sentence goes on after a sign at ``at``; None if the next token decides.


def _line_goes_on(text: str, start: int, at: int, listed: bool) -> bool | None:
    """After a line: it does if that ends in a colon, or a list item follows."""
    if text[start:at].rstrip(" \t\n*_").endswith(":"):
        return True
    rest = text[at:].lstrip()[:_KNOWN] if listed else _NO_MORE
    if _ITEM.match(rest):
        return True
    return None if len(rest) < _KNOWN else False


def _mark_goes_on(text: str, at: int) -> bool | None:
    """After "!" or "?": it does after a factorial ("5! = 120")."""
    after = text[at + 1 :]
    if text[at] == "!" and text[at - 1].isdigit():
        after = after.lstrip(" ")
        return after[0] in "=/*+\u00d7\u00f7)}\\" if after else None
    return after[0].isdigit() if after else None


def _stop_goes_on(text: str, start: int, at: int) -> bool | None:
    """After a full stop: it does within a number, and after an abbreviation or initial."""
    after = text[at + 1 : at + 2]
    if not after:
        return None
    if after.isalnum() or after in "\\.":
        return True
    found = _WORD.search(text, max(start, at - _WORD_BACK), at)
    if found is None:
        return False
    word, rest = found[0], text[at + 1 :].lstrip(" \t")
    if _TITLES.fullmatch(word):
        return text[at + 1 :] != _NO_MORE
    if _INITIALS.fullmatch(word):
        return _initial_goes_on(word, rest)
    if not _SHORT.fullmatch(word):
        return False
    if not rest:
        return None
    return rest[0].isdigit() or rest[0] in "$\\€£¥₹" or (word.lower() != "no" and rest[0].islower())


def _initial_goes_on(letters: str, rest: str) -> bool | None:
    """After "J." or "U.S.": it does with an initial or a name, not with a new sentence."""
    alone = len(letters) == 1
    option = alone and letters in _CHOICE  # mostly stands alone
    if not rest:
        return False if option else None
    if not rest[0].isupper():
        return not alone and (rest[0].isdigit() or rest[0].islower())
    word = re.split(r"[\W\d_]", rest, maxsplit=1)[0]
    if word == rest and not (option and len(rest) > 1):
        return None
    return rest[1:2] == "." or not (option or _OPENERS.fullmatch(word))


def sentences(text: str, place: Span) -> list[Span]:
    """Cut running text into its sentences and lines, without programs and closing words."""
    cuts = [m.span() for m in _BREAK.finditer(text, *place)]
    starts, ends = [place.start, *(c[1] for c in cuts)], [*(c[0] for c in cuts), place.end]
    found = [Span(a, b) for a, b in zip(starts, ends, strict=True)]
    for code in list(_PROGRAM.finditer(text, *place))[-MOST:]:
        end = text.find("```", code.end())
        found = [s for s in found if s.end <= code.start() or -1 < end <= s.start]
    while len(found) > 1 and (found[-1].start == found[-1].end or _CLOSING.match(text, *found[-1])):
        found.pop()
    return found


_TASK = r"[Qq]uestion|QUESTION|[Pp]roblem|PROBLEM|[Ee]xercise"
# A line that opens with a label and a colon or number, or a heading of a label alone.
_TURN = re.compile(
    r"\n(?P<marks>[ \t#*>_]*+)"
    rf"(?:(?P<next>(?:[Nn]ext|[Nn]ew)[ ](?:{_TASK})|Q|User|Human|USER|HUMAN)"
    rf"|(?P<reply>Assistant|ASSISTANT)|(?P<task>{_TASK}|[Ii]nstructions?|[Ii]nput))"
    r"(?P<number>[ \t]*#?[0-9]+[a-z]?)?(?P<close>[*_]*[ \t]*[*_]*[:.)]|[*_]*[ \t]*(?=\n))"
)
# What a reply may say before it repeats its question: "Sure, let's solve this."
_INTRODUCED = re.compile(
    r"\s*(?:(?i:sure|certainly|of course|okay|ok|let|here|first|to (?:solve|answer|find)|i will"
    r"|i['\u2019]ll|given|this is|we (?:have|are given))\b[^\n]*|[^\n]*\w[^\n]*:[*_ \t]*)\s*"
)
_ASKED = re.compile(rf"[ \t#*>_]*(?:Q|User|Human|USER|HUMAN|{_TASK})[^\w\n]*:")
_INTRODUCTION = 300  # characters


def before_run_on(text: str) -> str:
    """Cut a path before a next question, or before another speaker's turn."""
    at = next_turn(text + "\n") if "\n" in text else None
    return text if at is None else text[:at]


def next_turn(text: str, start: int = 0, reply: int = 0) -> int | None:
    """Find where a growing text goes on to another question or speaker: the newline before it.

    Args:
        text: The path so far; a heading counts once its line has ended.
        start: Search from here.
        reply: Where the reply itself begins; it may repeat its own question.
    """
    for found in _TURN.finditer(text, start):
        if _is_turn(found) and not _repeats(found, text[reply : found.start()]):
            return found.start()
    return None


def _is_turn(found: re.Match[str]) -> bool:
    """Whether a line that begins with a label's word is a label: by its colon, number or marks."""
    heading = "#" in found["marks"] or (found["marks"] + found["close"]).count("**") > 1
    if found["close"].endswith(":"):
        return heading or not (found["task"] or "").lower().startswith("in")
    return bool(found["task"]) and (
        bool(found["number"]) or (heading and found["close"][-1:] not in ".)")
    )


def _repeats(found: re.Match[str], before: str) -> bool:
    """Whether a label belongs to the question that a reply begins by repeating."""
    if found["next"]:
        return False
    if found["reply"]:
        return bool(_ASKED.match(before)) and "\nAssistant" not in before
    return len(before) <= _INTRODUCTION and bool(_INTRODUCED.fullmatch(before))
