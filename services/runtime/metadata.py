"""Names in the metadata of calls that more than one process must spell alike."""

from typing import Final

REQUEST_ID_KEY: Final = "x-request-id"
AUTHORIZATION_KEY: Final = "authorization"
USER_KEY: Final = "x-clearbook-user"
"""Who calls: believed in open mode, compared with the credential's user otherwise."""
SESSION_KEY: Final = "x-clearbook-session"
"""Of a forwarded call: the logon that it is made under. Its value is a secret."""
RETRY_KEY: Final = "retry-after"
"""In what is told beside an answer: seconds until the same may be asked again."""
