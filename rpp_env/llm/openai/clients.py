"""Makes the HTTP clients of servers, and says which proxy of the environment stands between."""

import re
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rpp_env.errors import LLMError, RppError


def import_libraries(name: str) -> tuple[Any, Any, Any]:
    """Imports the client and tenacity; returns both and the type of a raw response.

    Raises:
        RppError: They are not installed.
    """
    try:
        import httpx2
        import openai
        import tenacity
    except ImportError as error:
        raise RppError(f"{name} needs the openai client: pip install 'rpp-env[openai]'") from error
    return openai, tenacity, httpx2.Response


def make_client(openai: Any, url: str, *, name: str, key: str, timeout: float) -> Any:
    """Returns a client that sends each request once.

    Args:
        openai: The module.
        url: Base URL of the server.
        name: Name of the LLM, for messages.
        key: API key.
        timeout: Seconds to wait for an answer.

    Raises:
        LLMError: The environment names a proxy that cannot be used.
    """
    try:
        return openai.AsyncOpenAI(api_key=key, base_url=url, timeout=timeout, max_retries=0)
    except (ImportError, ValueError) as error:
        # The client reads every proxy of the environment, also those that this URL does not need.
        proxies = sorted({_without_password(proxy) for proxy in getproxies().values()})
        if not proxies:
            raise LLMError(f"{name}: no connection can be made to {url}: {error}") from error
        raise LLMError(
            f"{name}: the environment sets the proxy {' and '.join(proxies)}, which cannot be used "
            f"({error}). Unset ALL_PROXY, HTTP_PROXY and HTTPS_PROXY if the server is reached "
            "without one; a proxy of socks5:// needs pip install socksio; any other needs a URL "
            "that begins with http://"
        ) from error


def proxy_note(url: str) -> str:
    """A sentence that names the proxy between here and a server; empty if there is none."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    if not proxy or proxy_bypass(host):
        return ""
    return (
        f" Requests go by the proxy {_without_password(proxy)} of the environment; if the server "
        f"is reached without one, set NO_PROXY={host}."
    )


def _without_password(proxy: str) -> str:
    return re.sub(r"//[^/@]*@", "//", proxy)
