"""A place on the network where somebody may ask."""

from __future__ import annotations

import socket

from heirflow.errors import ConfigError


def listener(place: str, backlog: int) -> socket.socket:
    """Listens at ``HOST:PORT``, as `--http` names it. Raises `ConfigError`."""
    host, _, port = place.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=backlog)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {place} (--http): {getattr(error, 'strerror', None) or error}") from None
