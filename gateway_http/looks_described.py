"""OpenAPI of the routes of market_routes.py, whose parameters are fields of a message."""

from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from gateway_http.errors_described import LOOK_REFUSALS, responses
from gateway_http.examples import EXAMPLES
from gateway_http.market_routes import LOOKS, Look
from gateway_http.proto_schema import REFERENCE, field_schema


def _parameter(look: Look, field: FieldDescriptor, example: Any) -> dict[str, Any]:
    in_path = f"{{{field.name}}}" in look.path
    return {
        "name": field.name,
        "in": "path" if in_path else "query",
        "required": in_path,
        "schema": field_schema(field, asked=False),
    } | ({} if example is None else {"example": example})


def _described(look: Look) -> dict[str, Any]:
    method, example = look.method, EXAMPLES[look.method.name]
    answer = {"$ref": f"{REFERENCE}{method.output_type.name}"}
    answers = responses(*LOOK_REFUSALS, body=answer, example=example.answered)
    return {
        "get": {
            "summary": look.summary,
            "description": (
                f"The fields of {method.name}'s request, by the names of the proto; enums also without what their "
                "names begin with. The answer is its response."
            ),
            "operationId": method.name,
            "tags": [method.containing_service.name],
            "parameters": [
                _parameter(look, field, example.asked.get(field.name)) for field in method.input_type.fields
            ],
            "responses": {str(code): said for code, said in answers.items()},
        }
    }


PATHS: Final = {look.path: _described(look) for look in LOOKS}
