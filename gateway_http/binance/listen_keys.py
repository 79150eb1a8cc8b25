"""Listen keys: secrets that name a logon, for sockets that cannot sign. Whoever has one can read the account.

They are made of a signed request, unlike at Binance: the id of a key, which is all that it asks for, is no secret here.
"""

import asyncio
import secrets
from typing import Any, Final

from gateway_http.binance.asking import Asker, Logon
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import BAD_LISTEN_KEY, Refused
from services.errors import Reason, Rejected

KEYS_MAX: Final = 1_000
LIFE_SECONDS: Final = 3_600
"""From when it was made, or kept alive."""
KEY_BYTES: Final = 48


class ListenKey:
    """One of them.

    Attributes:
        logon: what it names.
    """

    def __init__(self, logon: Logon) -> None:
        """`logon`: has begun."""
        self.logon = logon
        self.timer: asyncio.TimerHandle | None = None


class ListenKeys:
    """All that live. They end with this process: clients make another one then."""

    def __init__(self) -> None:
        """There are none yet."""
        self._keys: dict[str, ListenKey] = {}
        self._of: dict[tuple[str, str], str] = {}

    async def make(self, params: Params, asker: Asker) -> dict[str, Any]:
        """Makes one; or keeps alive the one that was made with the same API key."""
        params.done()
        if len(self._keys) >= KEYS_MAX:
            raise Rejected(Reason.OVERLOADED, "too many listen keys live")
        logon = Logon(asker)
        await logon.begin()
        owner = (logon.who.account_id, logon.who.key_id)
        name = self._of.get(owner)
        if name is not None:
            await logon.end()
        else:
            name = self._of[owner] = secrets.token_urlsafe(KEY_BYTES)
            self._keys[name] = ListenKey(logon)
            made = name
            logon.ended.add_done_callback(lambda _: self._drop(made))
        self._keep(name)
        return {"listenKey": name}

    async def keep(self, params: Params) -> dict[str, Any]:
        """Keeps one alive."""
        name = params.text("listenKey")
        params.done()
        self.named(name)
        self._keep(name)
        return {}

    async def end(self, params: Params) -> dict[str, Any]:
        """Ends one, and the sockets that were opened with it."""
        name = params.text("listenKey")
        params.done()
        self._expire(name, self.named(name))
        return {}

    def named(self, name: str) -> ListenKey:
        """The one of a name. Raises Refused: there is none."""
        found = self._keys.get(name)
        if found is None:
            raise Refused(BAD_LISTEN_KEY, "This listenKey does not exist.")
        return found

    def _keep(self, name: str) -> None:
        key = self._keys[name]
        if key.timer is not None:
            key.timer.cancel()
        key.timer = asyncio.get_running_loop().call_later(LIFE_SECONDS, self._expire, name, key)

    def _expire(self, name: str, key: ListenKey) -> None:
        if not key.logon.ended.done():
            key.logon.ended.set_result(Rejected(Reason.UNAUTHENTICATED, "the listenKey has expired"))
        self._drop(name)
        key.logon.asker.closing.spawn(key.logon.end(), "listen key")

    def _drop(self, name: str) -> None:
        key = self._keys.pop(name, None)
        if key is not None:
            if key.timer is not None:
                key.timer.cancel()
            del self._of[key.logon.who.account_id, key.logon.who.key_id]
