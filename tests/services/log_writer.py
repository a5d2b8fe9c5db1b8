"""A process that appends to an embedded log until it is killed, and says what was acknowledged.

`python -m tests.services.log_writer FILE FIRST [MAX_FILE_BYTES]` prints each acknowledged number. With a limit, no file
may grow beyond it: the disk is full then, until a line on standard input makes room.
"""

import resource
import sys
from pathlib import Path

from ingest.log import LogUnavailable
from ingest.log.embedded import EmbeddedLog
from tests.services.log_places import numbered


def main(file: str, first: int, max_file_bytes: int | None = None) -> None:
    log = EmbeddedLog(Path(file), 4)
    if max_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
    number = first
    while True:
        batch = range(number, number + 5)
        try:
            log.append(numbered(batch)).result(30)
        except LogUnavailable:
            sys.stdout.write("full\n")
            sys.stdout.flush()
            if not sys.stdin.readline():
                break
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            continue
        sys.stdout.write("".join(f"{n}\n" for n in batch))
        sys.stdout.flush()
        number = batch.stop


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
