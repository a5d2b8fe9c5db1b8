"""Ways to find out whether a process does its work."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

Probe = Callable[[float], Awaitable[bool]]
"""From the age of the process, in seconds, to whether it answers. Never raises."""

_TIMEOUT_S = 10


def answers(url: str, host: str | None = None) -> Probe:
    """A GET of `url` gives 200; `host` is the Host header. `unix://SOCKET:/PATH` asks over a Unix socket."""
    socket, path = url.removeprefix("unix://").rsplit(":", 1) if url.startswith("unix://") else (None, "")

    async def probe(_age_s: float) -> bool:
        transport = httpx.AsyncHTTPTransport(uds=socket)
        async with httpx.AsyncClient(transport=transport, timeout=_TIMEOUT_S, trust_env=False) as client:
            try:
                answer = await client.get(f"http://engine{path}" if socket else url, headers={"Host": host} if host else None)
            except httpx.TransportError:
                return False
            return answer.is_success

    return probe


def accepts(host: str, port: int) -> Probe:
    """Connections to the port are accepted."""

    async def probe(_age_s: float) -> bool:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        return True

    return probe


def lives(for_s: float) -> Probe:
    """It has run for so long: all that is known of a process that listens nowhere."""

    async def probe(age_s: float) -> bool:
        return age_s >= for_s

    return probe
