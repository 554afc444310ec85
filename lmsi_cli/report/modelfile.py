"""The Modelfile that `ollama create` reads.

Written for the grammar of Ollama's own parser (``parser/parser.go``): a value goes to the end of
its line, or between three quotes, without any escapes. Knows neither models nor run folders.

    FROM ./model.gguf
    PARAMETER temperature 0.7
    TEMPLATE \"\"\"Q: {{ .Prompt }}
    A:\"\"\"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lmsi_cli.config import SamplingConfig
from lmsi_cli.errors import LmsiError
from lmsi_cli.prompts import TWO_STAGES, Task, render

QUOTES = '"""'
ONE_STAGE = "# The run asked twice; a template asks once, so the answer ends the rationale."
PROMPT = "{{ .Prompt }}"  # what Ollama's templates put the user's words in place of


def modelfile(
    source: str | Path,
    adapter: str,
    task: Task,
    settings: SamplingConfig,
) -> str:
    """Write a Modelfile.

    Args:
        source: The model's file, as the Modelfile shall name it.
        adapter: The adapter's; empty: it is merged.
        task: Plain prompts become a template with their exemplars, being known to the letter. Of a
            conversation Ollama makes its own from the file's chat template, and only the system
            message is told.
        settings: How the run's paths were drawn.

    Raises:
        LmsiError: A path or the system message cannot be written in this grammar.
    """
    lines = [ONE_STAGE] if task.format == TWO_STAGES else []
    lines += [f"FROM {_one_line(str(source))}"]
    if adapter:
        lines.append(f"ADAPTER {_one_line(adapter)}")
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(settings).items()]
    if task.chat is None:
        lines.append(f"PARAMETER stop {_quoted(chr(10) + 'Q:')}")
        lines.append(f"TEMPLATE {_quoted(template(task))}")
    elif task.chat.system.strip():
        lines.append(f"SYSTEM {_quoted(task.chat.system.strip())}")
    return "\n".join(lines) + "\n"


def template(task: Task) -> str:
    """The run's plain prompt with a place for the question.

    Raises:
        LmsiError: The prompt's own words look like a place.
    """
    text = render(task, PROMPT, task.format)
    if not isinstance(text, str) or text.count("{{") != 1:
        raise LmsiError("the task's prompt cannot be written as an Ollama template")
    return text


def _parameters(s: SamplingConfig) -> Mapping[str, str]:
    """Ollama's own defaults are others, so all are told; it penalises repetition, lmsi does not."""
    return {
        "temperature": f"{s.temperature:g}",
        "top_k": f"{s.top_k}",
        "top_p": f"{s.top_p:g}",
        "min_p": f"{s.min_p:g}",
        "repeat_penalty": "1",
        "num_predict": f"{s.max_tokens}",
    }


def _quoted(text: str) -> str:
    if QUOTES in text or text.endswith('"'):
        raise LmsiError(
            "a text with three quotes, or a quote at its end, has no place in a Modelfile"
        )
    return f"{QUOTES}{text}{QUOTES}"


def _one_line(text: str) -> str:
    if not text.isprintable() or '"' in text or text != text.strip():
        raise LmsiError(f"{text!r}: this path has no place in a Modelfile", hint="rename it")
    return text
