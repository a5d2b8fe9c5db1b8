"""What the loop remembers between its turns: which adapters failed, and since when others are not wanted."""

from collections.abc import Set

_PAUSES_S = (0.5, 1, 2, 5, 10, 30)


class Patience:
    """Times are monotonic seconds, given by the caller."""

    def __init__(self, drain_timeout_s: float) -> None:
        self._drain_timeout_s = drain_timeout_s
        self._failures: dict[str, int] = {}
        self._again_at: dict[str, float] = {}
        self._retired_at: dict[str, float] = {}

    def failed(self, adapter: str, now: float) -> float:
        """Remember a failure; returns for how long the adapter is left alone, in seconds."""
        count = self._failures[adapter] = self._failures.get(adapter, 0) + 1
        pause_s = _PAUSES_S[min(count, len(_PAUSES_S)) - 1]
        self._again_at[adapter] = now + pause_s
        return pause_s

    def succeeded(self, adapter: str) -> None:
        self._failures.pop(adapter, None)
        self._again_at.pop(adapter, None)

    def paused(self, now: float) -> frozenset[str]:
        """The adapters that failed too short a while ago."""
        return frozenset(name for name, again_at in self._again_at.items() if now < again_at)

    def overdue(self, retired: Set[str], now: float) -> frozenset[str]:
        """Of the adapters that nothing keeps any more, those that have had their time to drain."""
        self._retired_at = {name: self._retired_at.get(name, now) for name in retired}
        return frozenset(name for name, since in self._retired_at.items() if now - since >= self._drain_timeout_s)
