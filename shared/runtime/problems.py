"""Errors as RFC 9457 problem+json: which rule refused, in both languages, never an echo of the input."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from shared.decider import Refused

STATUS = {"rule": 409, "authority": 403, "absent": 404, "input": 422}


class Problem(BaseModel):
    """The body of every error answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    rule: str | None = None
    ko: str | None = None
    en: str | None = None
    errors: list[dict[str, str]] | None = None
    """For 422: where the body does not fit, as a path and a reason code; never the value."""


class Stop(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, code: str, ko: str, en: str, **more: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.ko, self.en = status, code, ko, en
        self.headers: dict[str, str] = more.pop("headers", {})
        self.errors: list[dict[str, str]] | None = more.pop("errors", None)
        self.rule: str | None = more.pop("rule", None)

    @staticmethod
    def refused(refusal: Refused) -> Stop:
        """A refusal of the domain as a problem."""
        return Stop(STATUS[refusal.kind], refusal.rule, refusal.ko, refusal.en, rule=refusal.rule)

    def response(self) -> Response:
        """The answer itself; ``ko`` and ``en`` hold the sentence, ``detail`` both of them."""
        body = {
            "type": f"/problems/{self.code}",
            "title": self.code,
            "status": self.status,
            "detail": f"{self.ko} / {self.en}",
            "rule": self.rule,
            "ko": self.ko,
            "en": self.en,
            "errors": self.errors,
        }
        shown = {name: value for name, value in body.items() if value is not None}
        return Response(
            json.dumps(shown, ensure_ascii=False).encode(), self.status, self.headers, "application/problem+json"
        )


def unavailable() -> Stop:
    """503: nothing was stored, the same request may be sent again."""
    return Stop(
        503,
        "unavailable",
        "지금은 처리할 수 없습니다. 잠시 뒤 같은 요청을 다시 보내십시오.",
        "Not available just now: send the same request again shortly.",
        headers={"Retry-After": "1"},
    )


def not_authenticated() -> Stop:
    """401: always the same answer, whatever is wrong with the token."""
    return Stop(
        401,
        "unauthenticated",
        "유효한 인증 토큰이 필요합니다.",
        "A valid token is needed.",
        headers={"WWW-Authenticate": 'Bearer realm="maru"'},
    )


def bad_request(code: str, ko: str, en: str, status: int = 400) -> Stop:
    """A request that no route can take."""
    return Stop(status, code, ko, en)
