"""A judge for tests: a small server in a thread that answers chat completions by a function of the two replies."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Compare = Callable[[str, str], str]
"""What it says about reply A and reply B."""


@dataclass
class StandinJudge:
    """Where it listens, what it was asked, and statuses that it answers first, one a question."""

    url: str
    first: list[int] = field(default_factory=list)
    retry_after_ms: int = 1
    questions: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@contextmanager
def judge(compare: Compare, first: Sequence[int] = ()) -> Iterator[StandinJudge]:
    """A judge that answers by `compare`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    at = StandinJudge(f"http://127.0.0.1:{server.server_port}/v1", list(first))
    server.RequestHandlerClass = _answering(at, compare)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield at
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answering(at: StandinJudge, compare: Compare) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            at.keys.add(self.headers["Authorization"])
            if at.first:
                return self._send(at.first.pop(0), {"error": {"message": "not now"}})
            question = json.loads(body)["messages"][-1]["content"]
            at.questions.append(body.decode())
            a, b = (re.findall(rf"<reply_{side}>\n(.*?)\n</reply_{side}>", question, re.DOTALL)[0] for side in "ab")
            message = {"role": "assistant", "content": compare(a, b)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(200, {"id": "c", "object": "chat.completion", "created": 0, "model": "j", "choices": [choice]})

        def _send(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Retry-After-Ms", str(at.retry_after_ms))
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # whoever asked was interrupted
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    return Answering
