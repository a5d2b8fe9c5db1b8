"""Errors as problem+json (RFC 9457): what is wrong in `title`, what to do next in `detail`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

_NEXT_STEPS = {
    404: ("Not found", "There is nothing at this path. GET /openapi.json lists what there is."),
    405: ("Method not allowed", "This path answers other methods; the Allow header names them."),
}


class FieldError(TypedDict):
    """What is wrong with one field of the body, named by its path: `shown.0.candidate`."""

    field: str
    message: str


class Problem(Exception):
    """A request that is not answered as asked. Neither text ever holds what a user wrote."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """The members of RFC 9457, and `errors` where fields are wrong."""
        plain = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return {**plain, "errors": list(self.errors)} if self.errors else plain


def problem_response(problem: Problem) -> JSONResponse:
    """Render a problem."""
    return JSONResponse(problem.body(), problem.status, problem.headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Make every error of the app a problem: its own, the framework's, and the unforeseen."""
    app.add_exception_handler(Problem, _own)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _unforeseen)


def _own(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error)


def _of_framework(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    title, detail = _NEXT_STEPS.get(error.status_code, ("Request refused", "GET /openapi.json says what is understood."))
    return problem_response(Problem(error.status_code, title, detail, error.headers))


def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
    # The framework raises the error again after this answer, and the server logs where it happened.
    detail = "This is a fault of the server. Send the same request again; the server's log says where it failed."
    return problem_response(Problem(500, "Internal error", detail))
