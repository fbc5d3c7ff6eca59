"""Pulumi's own installer, run as `python -m gitune.engine.official FOLDER` so that its time-out stays its own."""

from __future__ import annotations

import socket
import sys

from pulumi.automation import PulumiCommand

CONNECT_SECONDS = 8.0


def main() -> None:
    """Install the engine that belongs to the SDK into the given folder."""
    # The installer sets no time-out; without one, a firewall that drops packets would hang it for minutes.
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        PulumiCommand.install(root=sys.argv[1])
    except Exception as error:  # noqa: BLE001  whatever went wrong, the caller goes on without the installer
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
