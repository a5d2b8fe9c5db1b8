"""Errors of the gateway, in the form that OpenAI's clients read."""

from typing import Any

RETRY_AFTER_S = 2


class GatewayError(Exception):
    """Refused by the gateway: an HTTP status and what OpenAI's clients find under `error`."""

    status = 500
    kind = "server_error"
    code: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    @property
    def headers(self) -> dict[str, str]:
        return {}

    def body(self) -> dict[str, Any]:
        return error_body(str(self), self.kind, self.param, self.code)


class InvalidRequest(GatewayError):
    """The request can never be answered as it is; `param` names the field."""

    status = 400
    kind = "invalid_request_error"


class UnknownModel(GatewayError):
    """No such task, or no such adapter of it."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"


class NotReady(GatewayError):
    """The model that was asked for cannot answer at this moment: the same request again later."""

    status = 503
    code = "engine_unavailable"

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(RETRY_AFTER_S)}


class TooSlow(GatewayError):
    """The reply took longer than `gateway.request_timeout_s`."""

    status = 504
    code = "timeout"


class EngineSaidNo(GatewayError):
    """vLLM found the request wrong; its own status and words."""

    kind = "invalid_request_error"

    def __init__(self, status: int, message: str, param: str | None) -> None:
        super().__init__(message, param)
        self.status = status


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
