"""Makes an LLM from ``backend:model``, and checks what an LLM can do."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rpp_env.errors import did_you_mean
from rpp_env.llm.base import (
    GENERATE,
    LLM,
    LOGLIKELIHOOD,
    NEXT_TOKEN_LOGPROBS,
    STRUCTURED_OUTPUTS,
    GeneratingLLM,
    LoglikelihoodLLM,
    NextTokenLLM,
)
from rpp_env.llm.fake import FakeLLM
from rpp_env.llm.openai import OpenAILLM
from rpp_env.llm.transformers.transformers_llm import TransformersLLM
from rpp_env.llm.vllm.vllm_llm import VllmLLM

DEFAULT_LLM = "transformers:smollm2-135m-instruct"

BACKENDS: dict[str, Callable[..., LLM]] = {
    "transformers": TransformersLLM,
    "vllm": VllmLLM,
    "openai": OpenAILLM,
    "fake": FakeLLM,
}
"""The class of each backend, by the name before the colon of `backend:model`."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Options of an LLM's engine or server. None leaves an option to the backend."""

    dtype: str | None = None
    """transformers, vllm: float32, bfloat16, float16 or auto, the default: bfloat16 on a GPU and on
    a CPU that multiplies it natively, else float32."""
    max_in_flight: int | None = None
    """openai: requests under way at once; by default 16."""
    timeout: float | None = None
    """openai: seconds to wait for an answer; by default 60."""
    retry_seconds: float | None = None
    """openai: seconds for which a request is tried again before the work stops; by default 300."""
    revision: str | None = None
    """openai: the version of the model on the server. It replaces the server's address in the keys
    of stored answers."""
    drop_params: str | None = None
    """openai: request parameters to leave out, separated by commas: top_p, seed, temperature,
    system (its text is then put before the user's); by default learned from refusals."""
    on_refusal: str | None = None
    """openai: what happens to a prompt that the server refuses for its content or its length: stop
    (the default) ends the work; skip counts it as unrecognised and goes on."""

    def load(self, spec: str, *others: str) -> LLM:
        """Returns the LLM that `spec` names, with these options; see `load_llm`.

        Args:
            spec: ``backend:model``.
            *others: Specs of other LLMs that get the same options. An option that the backend of
                `spec` does not have is no error if the backend of one of these has it.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        elsewhere = {name for other in others for name in backend_options(other)}
        own = backend_options(spec)
        return load_llm(spec, **{k: v for k, v in given.items() if k in own or k not in elsewhere})


_PROTOCOLS: Final[Mapping[str, type]] = {
    LOGLIKELIHOOD: LoglikelihoodLLM,
    NEXT_TOKEN_LOGPROBS: NextTokenLLM,
    GENERATE: GeneratingLLM,
    STRUCTURED_OUTPUTS: GeneratingLLM,
}


def load_llm(spec: str, **options: Any) -> LLM:
    """Returns the LLM that `spec` names; nothing is loaded or asked before the first call.

    Args:
        spec: ``backend:model``. For ``transformers`` and ``vllm`` the model is the name of an
            embedded asset (``smollm2-135m-instruct``), a folder, or an id on the Hugging Face hub;
            for ``openai`` it is ``MODEL@URL``, or ``MODEL@URL,URL`` for servers that share the
            work; for ``fake`` a seed.
        **options: Passed to the backend, such as ``dtype`` for `TransformersLLM`.

    Raises:
        ValueError: There is no such backend, or it has no such option.
    """
    backend, separator, model = str(spec).partition(":")
    if not separator or not model:
        raise ValueError(f"llm={spec!r} is not of the form backend:model, as in {DEFAULT_LLM!r}")
    if backend not in BACKENDS:
        raise ValueError(f"llm={spec!r}: no backend {backend!r}. {did_you_mean(backend, BACKENDS)}")
    known = backend_options(spec)
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"{name}={value!r} is no option of backend {backend!r}, in llm={spec!r}. It has: "
                f"{', '.join(known) or 'none'}"
            )
    return BACKENDS[backend](model, **options)


def backend_options(spec: str) -> list[str]:
    """Names of the options of a spec's backend; none if there is no such backend."""
    backend = BACKENDS.get(spec.partition(":")[0])
    parameters = () if backend is None else inspect.signature(backend).parameters
    return [name for name in parameters if name != "model"]


def resolve_llm(llm: str | LLM) -> LLM:
    """The LLM that a string names, or the LLM itself.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(llm, str):
        return load_llm(llm)
    if not isinstance(llm, LLM):
        raise ValueError(
            f"llm={llm!r:.80} must be backend:model, as in {DEFAULT_LLM!r}, or an object with "
            "name, capabilities and apply_chat_template"
        )
    return llm


def require_capability(llm: LLM, capability: str, *, needed_by: str, instead: str = "") -> Any:
    """Returns the LLM, which has a capability and the method of it.

    Args:
        llm: Any LLM.
        capability: What is needed.
        needed_by: What needs it, for the message.
        instead: A sentence of the message that says what works with this LLM.

    Raises:
        ValueError: The LLM lacks it; the message names the backends that have it.
    """
    if capability in llm.capabilities and isinstance(llm, _PROTOCOLS[capability]):
        return llm
    sentences = [
        f"llm={llm.name!r} cannot do {capability!r}, which {needed_by} needs; it can do: "
        f"{', '.join(sorted(llm.capabilities)) or 'nothing'}",
        *filter(None, [instead]),
        f"Backends that can: {', '.join(backends_with(capability))}",
    ]
    raise ValueError(". ".join(sentences))


def backends_with(capability: str) -> list[str]:
    """Names of the backends that have a capability."""
    return [
        name
        for name, backend in BACKENDS.items()
        if capability in getattr(backend, "capabilities", ())
    ]
