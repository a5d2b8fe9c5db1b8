"""Ports that nobody listens on."""

import itertools
import random
import socket
from contextlib import ExitStack, suppress

_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections, which could take a free one before its server does."""
_turns = itertools.count(random.randrange(len(_PORTS)))


def free_ports(count: int) -> list[int]:
    """As many different ones; not those that this process or, most likely, another one beside it was given just before."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            listener, port = stack.enter_context(socket.socket()), _PORTS[next(_turns) % len(_PORTS)]
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                found.append(port)
    return found


def free_port() -> int:
    """One port."""
    return free_ports(1)[0]
