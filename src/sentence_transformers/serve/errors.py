"""Errors that callers see, in the form of OpenAI's. What went wrong inside the server is not among them."""

from __future__ import annotations

from typing import Any

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


class ApiError(Exception):
    """A request is answered with an error.

    Args:
        status: Of HTTP.
        message: What was wrong, and what to do; without anything the caller may not know.
        param: The field at fault, if it is one.
        code: A word for programs.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {
            "error": {
                "message": str(self),
                "type": TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }


def wrong(param: str, message: str) -> ApiError:
    """A field of the request makes no sense."""
    return ApiError(400, message, param=param, code="invalid_value")


def too_large(message: str, *, param: str | None = None) -> ApiError:
    """The request is larger than this server allows."""
    return ApiError(413, message, param=param, code="too_large")


def too_many(message: str, *, seconds: int) -> ApiError:
    """The server has too much to do; the caller may come again after so many seconds."""
    return ApiError(429, message, code="overloaded", headers={"Retry-After": str(seconds)})
