"""Work that this process does while PostgreSQL works for it."""

import select
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Wait

Meanwhile = Callable[[], bool]
"""Does a little, a fraction of a millisecond, and returns whether there is more to do."""
T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """A connection whose waits for the server are used, where somebody has something to do.

    In the thread that waits: a thread beside it would fight with it for the interpreter once the server has answered.
    """

    meanwhile: Meanwhile | None = None

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """As psycopg's: every wait comes by here."""
        return super().wait(self._busy(gen, self.meanwhile) if self.meanwhile else gen, *args, **kwargs)

    def _busy(self, gen: PQGen[T], step: Meanwhile) -> Generator[Any, Any, T]:
        """`gen`, which says what it waits for and is sent what is ready, after all steps until that is the case."""
        socket, more = self.pgconn.socket, True
        try:
            wanted = next(gen)
            while True:
                while more and not _is_ready(socket, wanted):
                    more = step()
                wanted = gen.send((yield wanted))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _is_ready(socket: int, wanted: Wait) -> bool:
    poll = select.poll()
    poll.register(socket, (select.POLLIN if wanted & Wait.R else 0) | (select.POLLOUT if wanted & Wait.W else 0))
    return bool(poll.poll(0))
