"""Draw the paths of cells, each a model, a set and a wording, greedy or sampled.

Paths are kept as JSON lines in a cache folder, so that a run of hours can be interrupted, and they
are read anew each time a table is made (``table.py``). The cells of one set are drawn together:
towards its end, a single cell would leave the KV cache half empty.

    python -m benchmarks.wordings.cells --model qwen=q.gguf --set gsm8k:test.jsonl --questions 200
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Generated, Request, Wanted, draw, path_seed
from lmsi_cli.engine.checks import split
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.paths import to_requests
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Question
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_labelled, split_source
from lmsi_cli.tasks.wording import Wording, read_wordings, worded

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "lmsi-experiments" / "wordings"
SEED, MAX_TOKENS = 0, 512


class Cell(NamedTuple):
    """A model, a set of questions, the words to ask them in, and the number of paths of each."""

    model: str
    set: str
    wording: Wording
    task: Task
    paths: int
    temperature: float

    @property
    def file(self) -> Path:
        """Where its paths are kept."""
        name = f"{self.model}--{self.set}--{self.wording.name}--t{self.temperature:g}.jsonl"
        return CACHE / name


def wordings_for(kind: str, chat: bool) -> list[Wording]:
    """All candidates for a kind of answer, for models with or without a chat template."""
    return [w for w in read_wordings(HERE / f"{kind}.toml") if w.chat == chat]


def cell_of(model: str, source: str, wording: Wording, paths: int, temperature: float) -> Cell:
    """The cell of a wording; ``source`` is like ``gsm8k:FILE``."""
    name = split_source(source)[0]
    chat = Chat(few_shot=wording.few_shot, system="") if wording.chat else None
    task = msgspec.structs.replace(worded(load_task(name), wording), chat=chat)
    return Cell(model, name, wording, task, paths, temperature)


def draw_cells(engine: LlamaEngine, cells: Sequence[Cell], questions: Sequence[Question]) -> None:
    """Draw and append the paths that cells of a set and temperature lack, question by question."""
    lacking = [(i, q) for q in questions for i in range(len(cells))]
    have = [{(r["question_id"], r["path"]) for r in rows(c.file)} for c in cells]
    requests = [r for i, q in lacking for r in _requests(engine, cells[i], i, q, have[i])]
    requests = split(requests, MAX_TOKENS, engine.context).fitting
    sampling = SamplingConfig(temperature=cells[0].temperature, max_tokens=MAX_TOKENS, seed=SEED)
    known = {q.id: q for q in questions}
    begun, tokens, done = time.monotonic(), 0, 0
    for g in draw(engine, requests, sampling, cells[0].task.trigger):
        number, _, question = g.question_id.partition(" ")
        _append(cells[int(number)], known[question], g)
        tokens, done = tokens + g.tokens, done + 1
    if done:
        speed = tokens / (time.monotonic() - begun)
        print(f"{time.strftime('%H:%M')} {cells[0].model} {cells[0].set}: {done} paths, "
              f"{tokens / done:.0f} tokens each, {speed:.0f} tokens/s", flush=True)  # fmt: skip


def _requests(
    engine: LlamaEngine, cell: Cell, number: int, q: Question, have: set[tuple[str, int]]
) -> list[Request]:
    wanted = [Wanted(k, path_seed(SEED, q.id, k)) for k in range(cell.paths)]
    wanted = [w for w in wanted if (q.id, w.path) not in have]
    if not wanted:
        return []
    made = to_requests(engine, cell.task, q, cell.wording.prompt, wanted)
    few = cell.wording.prompt.endswith("few")
    return [r._replace(question_id=f"{number} {q.id}", block=number if few else 0) for r in made]


def _append(cell: Cell, q: Question, g: Generated) -> None:
    row = {"question_id": q.id, "path": g.path, "stop_reason": g.stop_reason,
           "tokens": g.tokens, "logprob": g.logprob, "text": g.text, "gold": q.answer,
           "question": q.question}  # fmt: skip
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    with cell.file.open("a") as out:
        out.write(json.dumps(row) + "\n")


def rows(file: Path) -> Iterator[dict]:
    """The paths of a file, without a torn last line."""
    if file.exists():
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def main() -> None:
    """Draw the cells of each set that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--wording", action="append")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--paths", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    name, _, file = options.model.partition("=")
    with LlamaEngine(Path(file), EngineConfig(threads=options.threads)) as engine:
        for source in options.set:
            found = read_labelled(source)[: options.questions]
            kind = load_task(split_source(source)[0]).kind
            wordings = wordings_for(kind, bool(engine.encoder.source))
            cells = [
                cell_of(name, source, w, options.paths, options.temperature)
                for w in wordings
                if not options.wording or w.name in options.wording
            ]
            draw_cells(engine, cells, found)


if __name__ == "__main__":
    main()
