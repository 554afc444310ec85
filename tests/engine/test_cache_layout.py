"""How a cache is laid out: the arithmetic, and its prediction against what llama.cpp takes."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsi_cli.engine.cache_layout import CacheKind, Flash, Need, bytes_of, lay_out, rule_of_thumb
from lmsi_cli.engine.context import LlamaContext
from lmsi_cli.engine.llama import LlamaModel, library

needs = st.builds(
    lambda prefix, own, longest, paths: Need(prefix, prefix + own, longest, paths),
    st.integers(0, 900),
    st.integers(1, 400),
    st.integers(1, 600),
    st.integers(1, 5000),
)


@given(needs, st.integers(1, 300), st.booleans())
def test_every_path_may_be_as_long_as_it_is_allowed(need, width, unified):
    layout = lay_out(need, CacheKind(width, unified, Flash.OFF))
    assert 1 <= layout.width <= 240 and layout.sequences <= 256
    asked = min(width, need.paths)
    assert layout.width == min(asked, 240) or (not unified and 0 < layout.width - asked < 8)
    if unified:
        own = need.longest - need.prefix
        assert layout.cells >= need.prefix + layout.width * (own + need.max_tokens) + own
    else:
        assert layout.cells >= layout.sequences * (need.longest + need.max_tokens)


def test_a_long_prompt_is_held_once():
    assert rule_of_thumb(Need(1000, 1050, 256, 99), gpu=False).unified
    assert not rule_of_thumb(Need(9, 60, 256, 99), gpu=False).unified


@pytest.mark.model
@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("flash", [Flash.ON, Flash.OFF])
@pytest.mark.parametrize("width", [8, 64])
def test_the_prediction_is_within_a_tenth_of_what_llama_cpp_takes(gguf, unified, flash, width):
    lib, said = library(), []
    model = LlamaModel(gguf)
    layout = lay_out(Need(60, 90, 256, 999), CacheKind(width, unified, flash))
    listen = lib.llama_log_callback(lambda _level, text, _data: said.append(text.decode()))
    before = lib.llama_log_callback(), ctypes.c_void_p()
    lib.llama_log_get(ctypes.byref(before[0]), ctypes.byref(before[1]))
    lib.llama_log_set(listen, None)
    context = LlamaContext(model, layout, 1)
    lib.llama_log_set(*before)
    taken = sum(float(s.split("=")[1].split()[0]) for s in said if "buffer size" in s) * 2**20
    assert len(said) > 2 and bytes_of(layout, model.sizes) == pytest.approx(taken, rel=0.1)
    context.close()
    model.close()
