"""Draw the paths of a cell: one model, one set, one wording, greedy or sampled.

Paths are kept as JSON lines in a cache folder, so that a run of days can be interrupted, and they
are read anew each time figures are made:

    python -m benchmarks.wordings.cells --model qwen=q.gguf --set gsm8k:test.jsonl --questions 200
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lmsi_cli.config import EngineConfig, SamplingConfig
from lmsi_cli.engine.base import Request, Wanted, path_seed
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.engine.fitting import split
from lmsi_cli.engine.reading import to_requests
from lmsi_cli.prompts import Chat, Task
from lmsi_cli.records import Question
from lmsi_cli.tasks.loader import load_task
from lmsi_cli.tasks.readers import read_labelled, split_source
from lmsi_cli.tasks.wording import Wording, read_wordings, worded

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "lmsi-experiments" / "wordings"
SEED, MAX_TOKENS = 0, 512
ENGINE = EngineConfig(flash_attn="off", kv="split", parallel=64, threads=1)


def wordings_for(task: Task, chat: bool) -> list[Wording]:
    """All candidates for a task, of models with or without a chat template."""
    file = HERE / f"{task.kind}.toml"
    return [w for w in read_wordings(file) if chat or not w.chat]


def asked_so(task: Task, wording: Wording) -> Task:
    """The task in a wording's words, in its form."""
    chat = Chat(few_shot=wording.few_shot, system="") if wording.chat else None
    return msgspec.structs.replace(worded(task, wording), chat=chat)


def file_of(model: str, name: str, wording: str, temperature: float) -> Path:
    """Where a cell's paths are kept."""
    return CACHE / f"{model}--{name}--{wording}--t{temperature:g}.jsonl"


def draw_cell(  # noqa: PLR0913 - what makes a cell
    engine: LlamaEngine,
    model: str,
    source: str,
    wording: Wording,
    questions: list[Question],
    paths: int,
    temperature: float,
) -> None:
    """Draw what a cell lacks and append it."""
    name = split_source(source)[0] or Path(source).stem
    task = asked_so(load_task(name), wording)
    file = file_of(model, name, wording.name, temperature)
    file.parent.mkdir(parents=True, exist_ok=True)
    have = {(r["question_id"], r["path"]) for r in rows(file)}
    sampling = SamplingConfig(temperature=temperature, max_tokens=MAX_TOKENS, seed=SEED)
    requests: list[Request] = []
    for q in questions:
        wanted = [Wanted(k, path_seed(SEED, q.id, k)) for k in range(paths)]
        lacking = [w for w in wanted if (q.id, w.path) not in have]
        requests += to_requests(engine, task, q, wording.prompt, lacking, MAX_TOKENS)
    requests = split(requests, MAX_TOKENS, engine.info.context).fitting
    golds = {q.id: q for q in questions}
    begun, tokens, n = time.monotonic(), 0, 0
    with file.open("a") as out:
        for g in engine.generate(requests, sampling, task.trigger):
            q = golds[g.question_id]
            row = {"model": model, "set": name, "wording": wording.name, "question_id": q.id,
                   "path": g.path, "stop_reason": g.stop_reason, "tokens": g.tokens,
                   "logprob": g.logprob, "text": g.text, "gold": q.answer,
                   "question": q.question}  # fmt: skip
            out.write(json.dumps(row) + "\n")
            out.flush()
            tokens, n = tokens + g.tokens, n + 1
    seconds = time.monotonic() - begun
    if n:
        print(f"{time.strftime('%H:%M')} {file.stem}: {n} paths, {tokens / n:.0f} tokens each, "
              f"{tokens / seconds:.0f} tokens/s, {seconds:.0f} s", flush=True)  # fmt: skip


def rows(file: Path) -> Iterator[dict]:
    """The paths of a file, without a torn last line."""
    if file.exists():
        for line in file.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def main() -> None:
    """Draw cells, in the order they are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--wording", action="append")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--paths", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    options = parser.parse_args()
    name, _, file = options.model.partition("=")
    with LlamaEngine(Path(file), ENGINE) as engine:
        chat = bool(engine.encoder.source)
        for source in options.set:
            found = read_labelled(source)[options.skip : options.skip + options.questions]
            task = load_task(split_source(source)[0] or "number")
            for wording in wordings_for(task, chat):
                if not options.wording or wording.name in options.wording:
                    draw_cell(engine, name, source, wording, found, options.paths,
                              options.temperature)  # fmt: skip


if __name__ == "__main__":
    main()
