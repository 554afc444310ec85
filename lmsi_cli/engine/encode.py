r"""Prompts and completions to token ids: the same for sampling, training and evaluation.

Knows one vocabulary and its file's chat template; nothing of questions or files of records. The
promise: the marks among a conversation's ids (control tokens, and words like ``<|user|>`` that a
vocabulary sets apart) come only from the template and the system text, whatever the other messages
say. So the template is first rendered with placeholders for those messages, which shows its own
text and where the contents stand:

    ("<|im_start|>user\n", 0, "<|im_end|>\n<|im_start|>assistant\n")

The system text has no placeholder: it is the user's own, and templates heed words in it
(``/no_think``). The template is then rendered with the true contents and tokenised as a whole, as
in any other program. If the marks differ from those of the template's own parts, or a part is
missing, a content has forged a mark or made the template write something else. The parts are then
tokenised one by one, and marks are recognised only in the template's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, partial
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

from lmsi_cli.config import Variables
from lmsi_cli.engine.base import Encoded
from lmsi_cli.engine.llama import LlamaModel
from lmsi_cli.engine.template import OFF, ChatTemplate
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import ChatChoice, Message, Prompt
from lmsi_cli.thinking import closing, left_open

Marked = tuple[Message, ...]  # with placeholders for all contents but the system's
Parts = tuple[str | int, ...]  # template text, or the number of the placeholder that stands there
PLACE = "lmsi{:04d}place"  # letters and digits only: no template alters it
_PLACE = re.compile(PLACE.replace("{:04d}", "([0-9]{4})"))
_SHAPE = re.compile(r"<.+>|\[.+\]", re.DOTALL)  # a mark's; vocabularies also set plain words apart
GLUE = ("\n", "~", "|")  # tokenised before a text that continues another, then cut off


class ChatMode(NamedTuple):
    """Whether a model is asked in conversations, and why."""

    chat: bool
    why: str


class Frame(NamedTuple):
    """A template's text around messages; ``folds``: the system text goes into the first turn."""

    parts: Parts
    folds: bool = False

    @property
    def tail(self) -> str:
        """What the template writes after the last message."""
        return self.parts[-1] if isinstance(self.parts[-1], str) else ""


def choose(choice: ChatChoice, encoder: Encoder, variables: Variables = ()) -> ChatMode:
    """Decide between conversation and plain text.

    LmsiError: the file has no template although one is wanted, or its template is broken or does
    not take these variables.
    """
    if choice == "off":
        return ChatMode(False, "--chat off")
    if choice == "auto" and not encoder.source:
        return ChatMode(False, "the file has no chat template")
    encoder.given(variables).prompt((Message(role="user", content="Hello"),))
    return ChatMode(True, "--chat on" if choice == "on" else "the file has a chat template")


class Encoder:
    """One vocabulary; conversations need its file's chat template, plain text does not.

    ``named`` is the file that errors name, if the model is a copy of it.
    """

    def __init__(
        self, model: LlamaModel, variables: Variables = (), named: Path | None = None
    ) -> None:
        self.model, self.lib, self.vocab = model, model.lib, model.vocab
        self.variables, self.path = variables, named or model.path
        self._other = cache(partial(Encoder, model, named=named))
        self._marks: dict[int, bool] = {}
        # shared by conversations with the same roles and the same system text
        self._frame = cache(self._read_frame)
        self._ending = cache(self._read_ending)

    def given(self, variables: Variables) -> Encoder:
        """The encoder whose template gets these variables."""
        return self if variables == self.variables else self._other(variables)

    # -- prompts ---------------------------------------------------------------------------

    def prompt(self, prompt: Prompt) -> Encoded:
        """Turn plain text or a conversation, up to where the reply begins, into ids.

        LmsiError: no template for a conversation, or the template refuses its messages.
        """
        if isinstance(prompt, str):
            return Encoded(self.model.encode(prompt))
        frame = self.frame(prompt)
        whole = self.template.write(_folded(prompt) if frame.folds else prompt, reply=True)
        contents = [m.content for m in prompt if m.role != "system"]
        ids = self._guarded(frame.parts, contents, whole, fresh=True)
        return Encoded(self._bos(frame.parts) + ids, left_open(frame.tail))

    def frame(self, messages: Sequence[Message]) -> Frame:
        """Read what the template writes around messages with these roles and this system text."""
        return self._frame(_marked(messages))

    def _read_frame(self, marked: Marked) -> Frame:
        folds = marked[0].role == "system" and not self._takes_system(marked)
        written = _folded(marked) if folds else marked
        parts = _parts(self.template.write(written, reply=True))
        places = [i for i, m in enumerate(written) if m.role != "system"]
        if missing := set(range(len(places))) - set(parts):
            lost = places[min(missing)]
            raise LmsiError(
                f"{self.path}: its chat template leaves out the {written[lost].role}'s words"
                f" (message {lost + 1} of {len(written)})",
                hint=f"try `--set few_shot=message`, or {OFF}",
            )
        return Frame(parts, folds)

    def _takes_system(self, marked: Marked) -> bool:
        """Whether the template writes a system message; others refuse it or drop it silently.

        The probe is a placeholder, because some templates remove words such as /no_think.
        """
        system = Message(role="system", content=PLACE.format(len(marked)))
        try:
            return system.content in self.template.write((system, *marked[1:]), reply=True)
        except LmsiError:
            return False

    def _bos(self, parts: Parts) -> list[int]:
        """BOS, if the model wants it and the template does not write it."""
        written = isinstance(parts[0], str) and parts[0].startswith(self._bos_text or "\0")
        wanted = self.lib.llama_vocab_get_add_bos(self.vocab) and not written
        return [self.lib.llama_vocab_bos(self.vocab)] if wanted else []

    # -- completions -----------------------------------------------------------------------

    def completion(self, prompt: Prompt, completion: Prompt) -> list[int]:
        """Turn what follows a prompt into ids, with the token that ends it.

        For a conversation this is the assistant's message as the template writes it, up to its
        end-of-turn token. A thinking block that the prompt has opened is closed first.
        """
        if isinstance(completion, str) or isinstance(prompt, str):
            assert isinstance(completion, str) and isinstance(prompt, str)
            eos = self.model.eos
            return self.model.encode_tail(completion) + ([] if eos is None else [eos])
        frame, (before, end) = self.frame(prompt), self._ending(_marked(prompt))
        content = completion[0].content
        fresh = any(map(self._is_apart, self.model.tokenize(frame.tail, special=True)[-1:]))
        return self._guarded((before, 0), [content], before + content, fresh) + end

    def _read_ending(self, marked: Marked) -> tuple[str, list[int]]:
        """The template text before the assistant's last turn, and the ids that end the turn.

        If the template writes no end-of-turn token, the model's own is used.
        """
        frame = self._frame(marked)
        asked = _folded(marked) if frame.folds else marked
        place = PLACE.format(len(asked))
        reply = Message(role="assistant", content=place)
        head, _, after = self.template.write((*asked, reply), reply=False).rpartition(place)
        start = self.template.write(asked, reply=True)
        before = head.removeprefix(start) if head.startswith(start) else ""
        if open_ := left_open(frame.tail + before):  # the content would have to close it
            before += f"{closing(open_)}\n\n"
        ids = self._continue(after, fresh=False, special=True)
        ends = [i for i, token in enumerate(ids) if self.model.ends(token)]
        own = (self.lib.llama_vocab_eot(self.vocab), self.lib.llama_vocab_eos(self.vocab))
        return before, ids[: ends[0] + 1] if ends else [token for token in own if token >= 0][:1]

    # -- tokens ----------------------------------------------------------------------------

    def _guarded(self, parts: Parts, contents: Sequence[str], whole: str, fresh: bool) -> list[int]:
        """Ids of ``whole`` if it has all parts and no other marks, else of the parts one by one."""
        ids = self._continue(whole, fresh, special=True)
        own = [t for p in parts if isinstance(p, str) for t in self.model.tokenize(p, True)]
        same = list(filter(self._is_mark, ids)) == list(filter(self._is_mark, own))
        if same and _holds(whole, parts):
            return ids
        ids = []
        for part in parts:
            if isinstance(part, str):
                ids += self._continue(part, fresh, special=True)
            else:
                ids += self._content(contents[part], fresh)
            fresh = self._is_apart(ids[-1]) if ids else fresh
        return ids

    def _content(self, text: str, fresh: bool) -> list[int]:
        """Tokenise a message's own words; any mark in them is split after its first letter.

        llama.cpp recognises the words that a vocabulary sets apart even if it is told to ignore
        control tokens, and some files mark the turns with such words (Command R's do).
        """
        ids: list[int] = []
        waiting = [text]
        while waiting:
            piece = waiting.pop()
            own = self._continue(piece, fresh, special=False)
            shards = self._shards(piece, own)
            if len(shards) > 1:  # splitting may expose another mark in a shard
                waiting.extend(reversed(shards))
            else:
                ids, fresh = ids + own, False
        return ids

    def _shards(self, text: str, ids: Sequence[int]) -> list[str]:
        """Cut a text after the first letter of every mark among its ids that has more letters."""
        found = {x for t in ids if self._is_mark(t) and len(x := self._spelling(t)) > 1}
        if not found:
            return [text]
        marks = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))))
        cuts = [0, *(m.start() + 1 for m in marks.finditer(text)), len(text)]
        return [text[a:b] for a, b in pairwise(cuts)]

    def _continue(self, text: str, fresh: bool, special: bool) -> list[int]:
        """Tokenise a text that continues another, or is ``fresh``: begins, or follows a mark.

        SentencePiece vocabularies put a space before a fresh text. A continuation must not get
        one, so it is tokenised after something that it does not merge with.
        """
        if fresh or not self.model.adds_space():
            return self.model.tokenize(text, special)
        for glue in GLUE:
            head = self.model.tokenize(glue)
            ids = self.model.tokenize(glue + text, special)
            if ids[: len(head)] == head:
                return ids[len(head) :]
        return self.model.tokenize(text.removeprefix(" "), special)

    def _is_mark(self, token: int) -> bool:
        """Whether only the template may write this token."""
        if token not in self._marks:
            shaped = self._is_apart(token) and _SHAPE.fullmatch(self._spelling(token))
            self._marks[token] = self.model.is_control(token) or bool(shaped)
        return self._marks[token]

    def _is_apart(self, token: int) -> bool:
        """Whether llama.cpp matches the token before it tokenises the text around it."""
        apart = self.lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        attr = self.lib.llama_vocab_get_attr(self.vocab, token)
        return bool(attr & apart) or self.model.is_control(token)

    def _spelling(self, token: int) -> str:
        return self.model.spelling(token).decode(errors="replace")

    def runs(self, ids: Sequence[int]) -> Iterator[tuple[str, bool]]:
        """Spell ids for a person: stretches of text, and single marks (``True``)."""
        text = b""
        for token in ids:
            if self._is_mark(token):
                yield text.decode(errors="replace"), False
                yield self._spelling(token), True
                text = b""
            else:
                text += self.model.spelling(token)
        yield text.decode(errors="replace"), False

    # -- the file --------------------------------------------------------------------------

    @cached_property
    def source(self) -> str:
        """The file's chat template, or an empty string."""
        template = self.lib.llama_model_chat_template(self.model.raw, None)
        return str(template.decode(errors="replace")) if template else ""

    @cached_property
    def template(self) -> ChatTemplate:
        """The compiled template; LmsiError if there is none or it is broken."""
        if not self.source:
            raise LmsiError(f"{self.path}: this file has no chat template", hint=OFF)
        eos = self._text(self.lib.llama_vocab_eos(self.vocab))
        where = str(self.path)
        return ChatTemplate(self.source, self._bos_text, eos, where, self.variables)

    @cached_property
    def _bos_text(self) -> str:
        return self._text(self.lib.llama_vocab_bos(self.vocab))

    def _text(self, token: int) -> str:
        if token < 0:
            return ""
        return str(self.lib.llama_vocab_get_text(self.vocab, token).decode(errors="replace"))


def _marked(messages: Sequence[Message]) -> Marked:
    """Replace all contents but the system's with placeholders, numbered in order."""
    places = map(PLACE.format, count())
    return tuple(
        m if m.role == "system" else Message(role=m.role, content=next(places)) for m in messages
    )


def _parts(text: str) -> Parts:
    """Split a text at its placeholders."""
    pieces = _PLACE.split(text)  # text, number, text, number, ..., text
    parts = [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "")


def _holds(whole: str, parts: Parts) -> bool:
    """Whether a text consists of the template's parts, in order, around any contents."""
    at = 0
    for i, part in enumerate(parts):
        if isinstance(part, str):
            found = whole.rfind(part, at) if i == len(parts) - 1 else whole.find(part, at)
            if found < at or (i == 0 and found):
                return False
            at = found + len(part)
    return at == len(whole) or isinstance(parts[-1], int)


def _folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the system text in front of the first user's."""
    system, first, *rest = messages
    both = f"{system.content}\n\n{first.content}"
    return (Message(role="user", content=both), *rest)
