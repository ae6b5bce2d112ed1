"""The type of an LLM's weights: what may be asked for, and what `auto` takes on a device."""

from functools import cache
from typing import Final

from rpp_env.errors import did_you_mean

AUTO: Final = "auto"
DTYPES: Final = (AUTO, "float32", "bfloat16", "float16")
# What processors call instructions that multiply matrices of bfloat16, as torch names them. Where
# there is none, products in bfloat16 are slower than in float32.
_NATIVE: Final = ("amx_bf16", "avx512_bf16", "bf16")


def check_dtype(dtype: str | None) -> None:
    """Checks the type of the weights; None means `auto`.

    Raises:
        ValueError: There is no such type.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not a type of weights. {did_you_mean(dtype, DTYPES)}")


def placed_dtype(dtype: str | None, *, on_cpu: bool) -> str:
    """The type that weights get on a device.

    Args:
        dtype: One of `DTYPES`; None means `auto`: bfloat16 on a GPU, and on a CPU that multiplies
            it natively (AMX, AVX512-BF16, Arm's bf16); else float32.
        on_cpu: Whether the device is a CPU.
    """
    if dtype not in (None, AUTO):
        return str(dtype)
    return "float32" if on_cpu and not multiplies_bfloat16() else "bfloat16"


@cache
def multiplies_bfloat16() -> bool:
    """Whether this machine's processor has instructions for products of bfloat16."""
    import torch

    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in _NATIVE)
