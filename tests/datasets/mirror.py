"""A server of files on this machine that can be told to misbehave."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mirror:
    """What is served and how; ``truncated_after``: so many bytes of each answer in turn, then the connection is closed."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    status: int = 200
    truncated_after: list[int] = field(default_factory=list)
    seconds_of_silence: float = 0
    says_length: bool = True
    sends_the_part: slice | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        name, wanted = request.path.removeprefix("/"), request.headers.get("Range")
        self.asked.append((name, wanted))
        if self.status != 200 or name not in self.files:
            request.send_error(self.status if self.status != 200 else 404)
            return
        content, start = self.files[name], 0
        if wanted is not None and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_error(416)
                return
            request.send_response(206)
            part = self.sends_the_part or slice(start, len(content))
            request.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{len(content)}")
        else:
            request.send_response(200)
        body = content[start:]
        if self.says_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        sent = self.truncated_after.pop(0) if self.truncated_after else len(body)
        request.wfile.write(body[: sent // 2])
        request.wfile.flush()
        time.sleep(self.seconds_of_silence)
        request.wfile.write(body[sent // 2 : sent])


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Mirror]:
    mirror = Mirror(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    mirror.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
