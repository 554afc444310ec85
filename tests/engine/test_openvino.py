"""The OpenVINO engine on the embedded model: paths, ends and run folders as llama.cpp has them."""

from importlib import import_module
from importlib.util import find_spec

import broken_models
import pytest
from test_batched import TRIGGER, requests
from test_watch import Watch

from lmsi_cli.config import EngineConfig, SampleConfig, SamplingConfig
from lmsi_cli.engine import openvino as module
from lmsi_cli.engine.engine import LlamaEngine
from lmsi_cli.errors import LmsiError
from lmsi_cli.jsonl import read_records
from lmsi_cli.records import Path, Question
from lmsi_cli.run_folder import RunDir, locked
from lmsi_cli.stages.engines import open_file
from lmsi_cli.stages.pipeline import draw_paths, job_of

pytestmark = pytest.mark.model
installed = pytest.mark.skipif(find_spec("openvino_genai") is None, reason="needs openvino-genai")
GREEDY = SamplingConfig(temperature=0, max_tokens=60, threads=1)
PRECISIONS = "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION"
HOT = SamplingConfig(temperature=1, max_tokens=60, threads=1)
QUESTIONS = [
    Question(id="a", question="Tom has 12 apples. Tom gets 7 more apples. How many are there now?"),
    Question(id="b", question="Anna buys 3 boxes of 14 pens each. How many pens does Anna have?"),
]


def opened(file, **settings):
    return open_file(file, EngineConfig(threads=1, **settings), "openvino")


@pytest.fixture(autouse=True, scope="module")
def exact():
    """A CPU with BF16 computes in that, where the last bits depend on what else is in a step."""
    if find_spec("openvino_genai") is None:
        yield
        return
    genai = import_module("openvino_genai")
    pipeline, f32 = genai.ContinuousBatchingPipeline, {n: "f32" for n in PRECISIONS}

    def opened(file, plan, device, settings):
        return pipeline(file, plan, device, settings | f32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(genai, "ContinuousBatchingPipeline", opened)
        yield


@pytest.fixture(scope="module")
def engine(gguf, exact):
    with opened(gguf) as loaded:
        yield loaded


def drawn(engine, config, trigger=TRIGGER, watch=None):
    found = list(engine.generate(requests(engine, 4), config, trigger, watch))
    assert len({(g.question_id, g.path) for g in found}) == len(found)
    return {(g.question_id, g.path): g for g in found}


@installed
def test_a_greedy_path_is_llama_cpps_with_its_ids_end_and_log_probabilities(engine, gguf):
    ours = drawn(engine, GREEDY)
    with LlamaEngine(gguf, EngineConfig(threads=1, fast_copy="off")) as llama:
        theirs = drawn(llama, GREEDY)
    assert ours.keys() == theirs.keys() and len(ours) == 12
    for key, path in theirs.items():
        mine = ours[key]
        assert (mine.text, mine.stop_reason) == (path.text, path.stop_reason)
        assert [(t.id, t.start) for t in mine.drawn] == [(t.id, t.start) for t in path.drawn]
        assert mine.logprob == pytest.approx(path.logprob, abs=0.01)


@installed
def test_a_path_is_a_function_of_its_seed_and_ends_at_its_answer(engine):
    first, again = drawn(engine, HOT), drawn(engine, HOT)
    assert {k: g.text for k, g in first.items()} == {k: g.text for k, g in again.items()}
    assert len({g.text for g in first.values()}) > 6
    assert "answer" in {g.stop_reason for g in first.values()}
    early = drawn(engine, GREEDY, trigger=" ".join(drawn(engine, GREEDY)["q0", 0].text.split()[:2]))
    assert early["q0", 0].tokens < drawn(engine, GREEDY)["q0", 0].tokens


@installed
def test_a_decided_question_is_left(engine):
    watch = Watch({"q0": 1})
    for g in engine.generate(requests(engine, 8), HOT, TRIGGER, watch):
        watch.seen[g.question_id][g.path] = g.text
    assert watch.seen["q1"].keys() == watch.seen["q2"].keys() == set(range(8))
    assert {q for q, _, _ in watch.lost} == {"q0"}
    assert not {p for _, p, _ in watch.lost} & watch.seen["q0"].keys()


@installed
def test_an_interrupted_generation_leaves_nothing_behind(engine):
    unfinished = engine.generate(requests(engine, 8), GREEDY, TRIGGER)
    next(unfinished)
    unfinished.close()
    assert len(drawn(engine, GREEDY)) == 12


@installed
def test_a_run_goes_on_and_its_folder_is_llama_cpps(gguf, tmp_path, watcher):
    def run(engine, paths):
        settings = SampleConfig(model=str(gguf), engine=engine, paths=paths, threads=1)
        with locked(RunDir(tmp_path / engine)):
            return draw_paths(job_of(settings, QUESTIONS), RunDir(tmp_path / engine), watcher)

    folder, other = RunDir(tmp_path / "openvino"), RunDir(tmp_path / "llama")
    half = run("openvino", 2)
    before = list(read_records(folder.paths, Path))
    whole = run("openvino", 4)
    after = list(read_records(folder.paths, Path))
    assert (half.new_paths, whole.new_paths) == (4, 4)
    assert after[:4] == before
    assert len({(p.question_id, p.path) for p in after}) == 8
    run("llama", 1)
    assert folder.load_settings().keys() == other.load_settings().keys()
    assert folder.load_settings()["sample"].keys() == other.load_settings()["sample"].keys()
    assert all(p.logprob is not None and p.predicted_answer for p in after)
    with pytest.raises(LmsiError, match="engine"):
        draw_paths(job_of(SampleConfig(model=str(gguf), paths=4), QUESTIONS), folder, watcher)


@installed
def test_an_adapter_is_on_until_it_is_off(one_block, tmp_path):
    adapter = str(broken_models.adapter(tmp_path / "a.gguf", 512, value=0.05))
    with opened(one_block) as engine:
        base = drawn(engine, GREEDY)["q0", 0]
        engine.use_adapter(adapter)
        changed = drawn(engine, GREEDY)["q0", 0]
        engine.use_adapter(None)
        assert drawn(engine, GREEDY)["q0", 0] == base
    with LlamaEngine(one_block, EngineConfig(threads=1)) as llama:
        before = drawn(llama, GREEDY)["q0", 0].drawn[0].logprob
        llama.use_adapter(adapter)
        after = drawn(llama, GREEDY)["q0", 0].drawn[0].logprob
    assert changed.drawn[0].logprob == pytest.approx(after, abs=abs(after - before) / 4)
    assert base.drawn[0].logprob == pytest.approx(before, abs=abs(after - before) / 4)


@installed
def test_weights_that_openvino_does_not_compute_are_refused(gguf, one_block, monkeypatch):
    other = module.readable(gguf)
    monkeypatch.setattr(module, "readable", lambda _: other)
    monkeypatch.setattr(module, "recall", lambda *_: None)
    monkeypatch.setattr(module, "remember", lambda *_: None)
    with pytest.raises(LmsiError, match="nats from"):
        opened(one_block)


@installed
@pytest.mark.parametrize(
    ("settings", "words"),
    [({"kv": "split"}, "kv"), ({"ctx": 512}, "ctx"), ({"flash_attn": "on"}, "flash_attn")],
)
def test_a_setting_that_it_lacks_is_refused(gguf, settings, words):
    with pytest.raises(LmsiError, match=f"^{words}: ") as e:
        opened(gguf, **settings)
    assert "--engine llama" in e.value.hint


@installed
def test_a_model_of_another_kind_is_refused_in_one_line(gguf, tmp_path):
    other = broken_models.relabelled(gguf, tmp_path / "other.gguf", arch="internlm2")
    with pytest.raises(LmsiError, match="llama, qwen2, qwen3") as e:
        opened(other)
    assert "\n" not in str(e.value)


def test_without_the_package_it_says_how_to_get_it(gguf, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(LmsiError, match="openvino-genai") as e:
        opened(gguf)
    assert "pip install '.[openvino]' in lmsi's folder" in e.value.hint
    with pytest.raises(LmsiError, match="--cluster"):
        job_of(SampleConfig(model=str(gguf), engine="openvino", cluster="local"), QUESTIONS)
