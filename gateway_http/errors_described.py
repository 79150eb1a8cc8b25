"""OpenAPI of what can be answered: every error, with each of its reasons as an example."""

from typing import Any, Final

from gateway_http.errors import JSON
from services.errors import Reason

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code", "message", "field", "request_id"],
    "properties": {
        "code": {"type": "string", "enum": [reason.name for reason in Reason]},
        "message": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "request_id": {"type": "string"},
        "retry_after": {"type": "integer", "description": "Seconds; absent where asking again does not help."},
    },
}
PROBLEM_NAME: Final = "Problem"
REFUSALS: Final = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504)
LOOK_REFUSALS: Final = (400, 404, 422, 429, 500, 503, 504)
"""Of routes that tell everybody."""


def _refused(status: int) -> dict[str, Any]:
    reasons = [reason for reason in Reason if reason.http_status == status]
    examples = {
        reason.name: {
            "summary": reason.text,
            "value": {"code": reason.name, "message": reason.text, "field": None, "request_id": "811e1193f046714d"},
        }
        for reason in reasons
    }
    schema = {"$ref": f"#/components/schemas/{PROBLEM_NAME}"}
    return {
        "description": f"Refused: {', '.join(reason.name for reason in reasons)}.",
        "content": {JSON: {"schema": schema, "examples": examples}},
    }


ANSWERS: Final = {f"Refused{status}": _refused(status) for status in (*REFUSALS, 405)}
"""Components: answers by name."""


def responses(*codes: int, body: dict[str, Any], example: Any = None) -> dict[int | str, dict[str, Any]]:
    """OpenAPI: what a route answers.

    Args:
        codes: the statuses of its refusals.
        body: the schema of its answer.
        example: of its answer.
    """
    content = {"schema": body} | ({} if example is None else {"example": example})
    good: dict[int | str, dict[str, Any]] = {200: {"description": "Done", "content": {JSON: content}}}
    return good | {code: {"$ref": f"#/components/responses/Refused{code}"} for code in codes}
