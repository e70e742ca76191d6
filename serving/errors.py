"""Errors as OpenAI words them, so that a client raises what it raises there.

Form: ``{"error": {"message", "type", "param", "code"}}`` (https://platform.openai.com/docs/guides/error-codes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import JSONResponse

INVALID = "invalid_request_error"
AUTHENTICATION = "authentication_error"
PERMISSION = "permission_error"
RATE_LIMIT = "rate_limit_error"
SERVER = "server_error"
UNAVAILABLE_S = 30.0
"""When to come back to a model that cannot be loaded."""


class ApiError(Exception):
    """An answer other than 2xx, with what a client can do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the status, the sentence, the machine's word for it, and the parameter it is about."""
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)


def unsupported(param: str, message: str) -> ApiError:
    """Refuse an option by name instead of ignoring it."""
    return ApiError(400, message, code="unsupported_parameter", param=param)


def invalid(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """Refuse a value."""
    return ApiError(400, message, code=code, param=param)


def busy(message: str, retry_after_s: float, code: str = "server_busy") -> ApiError:
    """Say that there is no room now, and when to come back."""
    return ApiError(503, message, code=code, kind=SERVER, headers=retry_after(retry_after_s))


def unavailable(message: str) -> ApiError:
    """Say that a model cannot be used now."""
    return ApiError(503, message, code="model_unavailable", kind=SERVER, headers=retry_after(UNAVAILABLE_S))


def rate_limited(message: str, retry_after_s: float) -> ApiError:
    """Say that this client asks too often."""
    return ApiError(429, message, code="rate_limit_exceeded", kind=RATE_LIMIT, headers=retry_after(retry_after_s))


def internal() -> ApiError:
    """Say that the fault is here; the log has the request id and where it happened."""
    return ApiError(500, "The server failed; its log has this request's id.", code="internal_error", kind=SERVER)


def retry_after(seconds: float) -> dict[str, str]:
    """Header of whole seconds, 1 at least."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
