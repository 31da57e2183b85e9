"""HTTP as uvicorn speaks it with httptools, which alone would read a head without end into memory.

Imported only where httptools is installed; uvicorn's other implementation, h11, has such a limit.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers together."""


IN_BODY, JUST_ENDED = -1, -2
"""In place of the bytes of a head: there is none at the moment, or a message ended within the data at hand."""


class LimitedHeads(HttpToolsProtocol):
    """Closes connections on which a head grows too long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head_bytes = 0

    def on_headers_complete(self) -> None:
        self.head_bytes = IN_BODY
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.head_bytes = JUST_ENDED
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.head_bytes == JUST_ENDED:
            self.head_bytes = 0
        elif self.head_bytes != IN_BODY:
            self.head_bytes += len(data)
            if self.head_bytes > LONGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")
