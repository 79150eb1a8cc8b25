"""Why a socket is closed fits its close frame."""

import pytest
from websockets.frames import Close, Frame, Opcode

from gateway_http.closing import close_reason


@pytest.mark.parametrize("text", ["", "no such market: X", "no such market: " + "\U0001f600" * 32, "x" * 200])
def test_a_reason_is_cut_to_what_a_close_frame_carries(text: str) -> None:
    """RFC 6455, 5.5: a control frame has at most 125 bytes, of which the code takes two."""
    said = close_reason(text)
    Frame(Opcode.CLOSE, Close(1008, said).serialize()).serialize(mask=False)
    assert text.startswith(said)
    assert said == text or len(said.encode()) > 119
