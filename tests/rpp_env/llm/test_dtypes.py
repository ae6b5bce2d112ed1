"""The type of an LLM's weights: what `auto` takes where."""

import pytest
import torch

from rpp_env.llm import dtypes, load_llm
from rpp_env.llm.dtypes import check_dtype, multiplies_bfloat16, placed_dtype
from rpp_env.llm.transformers.transformers_llm import TransformersLLM


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "amx_tile": True}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True, "avx512_bf16": False}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    ],
)
@pytest.mark.parametrize("asked", [None, "auto"])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    monkeypatch, capabilities, native, asked
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(dtypes, "multiplies_bfloat16", multiplies_bfloat16.__wrapped__)
    assert placed_dtype(asked, on_cpu=True) == ("bfloat16" if native else "float32")
    assert placed_dtype(asked, on_cpu=False) == "bfloat16"
    assert placed_dtype("float16", on_cpu=True) == "float16"
    llm = TransformersLLM("stub", device="cpu", dtype=asked)
    assert llm._placement() == ("cpu", "bfloat16" if native else "float32")


def test_this_machine_says_what_it_has():
    assert multiplies_bfloat16() in (True, False)


def test_another_type_is_an_error_that_names_the_types():
    with pytest.raises(ValueError, match=r"dtype='float31' is not .* 'float32'"):
        check_dtype("float31")
    with pytest.raises(ValueError, match="dtype='bf16'"):
        load_llm("transformers:stub", dtype="bf16")
    assert check_dtype("auto") is None
