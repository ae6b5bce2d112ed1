"""What the tests of `TransformersLLM` are given."""

import pytest
from tiny_models import make_models

from rpp_env.llm import dtypes
from rpp_env.llm.transformers.transformers_llm import TransformersLLM


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch):
    """Scores are compared with references at that precision, whatever the processor prefers."""
    monkeypatch.setattr(dtypes, "multiplies_bfloat16", lambda: False)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of tiny random models; who changes one, copies it first."""
    return make_models(tmp_path_factory)


@pytest.fixture(params=["llama", "gpt2"])
def folder(models, request):
    return models[request.param]


@pytest.fixture
def llm(models):
    return TransformersLLM(str(models["llama"]), device="cpu", num_workers=1)
