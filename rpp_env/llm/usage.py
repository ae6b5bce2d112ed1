"""What an LLM has cost: requests, tokens, seconds. Counted by backends, read by whoever reports."""

from dataclasses import dataclass, field, fields

from rpp_env.locks import CopyableLock


@dataclass(kw_only=True)
class LLMUsage:
    """Counters; safe to add to from several threads."""

    requests: int = 0
    """Sent to the engine or server, those sent again included."""
    retries: int = 0
    """Of these, sent again after a fault."""
    failures: int = 0
    """Prompts that were given up."""
    refused: int = 0
    """Prompts that the server would not answer, and that count as unrecognised."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answers_without_usage: int = 0
    """Answers of a server that did not say how many tokens they took; in neither count above."""
    faults: dict[str, int] = field(default_factory=dict)
    """How often each kind of fault was met, such as ``timeout`` or ``429``."""
    _lock: CopyableLock = field(default_factory=CopyableLock, repr=False, compare=False)

    def add(
        self,
        *,
        requests: int = 0,
        retries: int = 0,
        failures: int = 0,
        refused: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        answers_without_usage: int = 0,
        fault: str | None = None,
    ) -> None:
        """Adds to the counters."""
        with self._lock:
            self.requests += requests
            self.retries += retries
            self.failures += failures
            self.refused += refused
            self.answers_without_usage += answers_without_usage
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens
            if fault is not None:
                self.faults[fault] = self.faults.get(fault, 0) + 1

    def counts(self) -> dict[str, int]:
        """The counters by name, without the kinds of faults.

        A count of tokens is left out, not 0, where no answer has told it.
        """
        with self._lock:
            named = [each.name for each in fields(self) if each.name not in ("faults", "_lock")]
            counts = {name: getattr(self, name) for name in named}
        unknown = ("prompt_tokens", "completion_tokens") if counts["answers_without_usage"] else ()
        return {name: n for name, n in counts.items() if n or name not in unknown}
