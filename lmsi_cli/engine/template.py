r"""A chat template: messages in, the text that a chat model was trained on out.

Knows the names that chat templates expect; nothing of tokens or questions. A template is a program
out of a downloaded file, which may loop for ever, so it runs in a process of its own
(``rendering.py``). What it writes depends on nothing but its input: its clock stands still.

    ChatTemplate(source, bos="<s>", eos="</s>").write((Message(role="user", content="Hi"),), True)
    -> "<s><|user|>\nHi<|end|>\n<|assistant|>\n"
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lmsi_cli.apart import Apart
from lmsi_cli.config import Variables, name_of, values_of
from lmsi_cli.errors import LmsiError
from lmsi_cli.records import Message

SECONDS = 1.0  # of CPU time for a conversation; an honest one needs a hundredth
OFF = "`--chat off` asks in plain text"
OWN = {"messages", "add_generation_prompt", "bos_token", "eos_token"}  # not for a user to set
NEEDLE = "lmsi needle"
TOO_MUCH = f"it takes over {SECONDS:g} s, or too much memory"
_CHILD = Apart("lmsi_cli.engine.rendering", SECONDS)


class ChatTemplate:
    """One compiled template, the texts of its model's BOS and EOS tokens, a user's variables.

    A name that is not given is not defined, as in llama.cpp: templates ask whether ``tools`` is.
    """

    def __init__(
        self,
        source: str,
        bos: str = "",
        eos: str = "",
        where: str = "",
        variables: Variables = (),
    ) -> None:
        """Compile a template.

        Args:
            source: Jinja text.
            bos: The text of the model's BOS token.
            eos: That of its EOS token.
            where: The file that it is from, for messages.
            variables: Values for what else the template asks for.

        Raises:
            LmsiError: It is broken, or has no such variable.
        """
        self.names = {"bos_token": bos, "eos_token": eos, **values_of(variables)}
        self.where, self.variables = where or "chat template", variables
        self.source = source
        found = _CHILD.ask({"source": source}) or {"fails": TOO_MUCH}
        if "fails" in found:
            raise LmsiError(f"{self.where}: its chat template is broken: {found['fails']}", OFF)
        self.knows = [name for name in found["knows"] if name not in OWN]
        for name in map(name_of, variables):
            if name not in self.knows:
                raise LmsiError(
                    f"{self.where}: its chat template has no variable {name!r} to set",
                    hint=f"it has: {', '.join(self.knows) or 'none'}",
                )

    def write(self, messages: Sequence[Message], reply: bool) -> str:
        """Write a conversation.

        Args:
            messages: In order; an empty system message is left to the template.
            reply: End where the assistant's next turn begins.

        Raises:
            LmsiError: The template refuses these messages; in its own words.
        """
        form = _listed if self._wants_lists else str
        turns = [{"role": m.role, "content": form(m.content)} for m in messages]
        found = self._rendered(turns, reply)
        if "fails" in found:
            raise self._refusal(found["fails"])
        return str(found["text"])

    def _rendered(self, turns: list[dict[str, Any]], reply: bool) -> dict[str, str]:
        """What the template writes (``text``), or why it does not (``fails``)."""
        given = {"messages": turns, "add_generation_prompt": reply, **self.names}
        found: dict[str, str] | None = _CHILD.ask({"source": self.source, "given": given})
        if found is None:
            raise self._refusal(TOO_MUCH)
        return found

    def _refusal(self, why: str) -> LmsiError:
        problem = f"{self.where}: its chat template refuses the prompt"
        if self.variables:
            known = f"another value, or none; its variables: {', '.join(self.knows)}"
            return LmsiError(f"{problem} with {', '.join(self.variables)}: {why}", hint=known)
        return LmsiError(f"{problem}: {why}", hint=f"try `--set few_shot=message`, or {OFF}")

    @cached_property
    def _wants_lists(self) -> bool:
        """Whether contents are lists of parts, as for templates of models that see.

        Found out as llama.cpp does: a text alone does not show, the same text in a list does.
        """
        shows = [
            NEEDLE in self._rendered([{"role": "user", "content": content}], False).get("text", "")
            for content in (NEEDLE, _listed(NEEDLE))
        ]
        return shows == [False, True]


def _listed(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]
