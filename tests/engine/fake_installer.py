"""Pulumi's server as seen through a proxy: answers every request with one installer script, over TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Called by the SDK as `SCRIPT --no-edit-path --install-root ROOT --version VERSION`.
INSTALLER = b"""#!/bin/sh
/bin/mkdir -p "$3/bin"
printf '#!/bin/sh\\necho v%s\\n' "$5" > "$3/bin/pulumi"
/bin/chmod +x "$3/bin/pulumi"
"""


@dataclass(frozen=True, slots=True)
class FakeInstaller:
    """Where the proxy listens, and the certificate to trust."""

    proxy: str
    certificate: Path


@contextmanager
def fake_installer(folder: Path, openssl: str, host: str) -> Iterator[FakeInstaller]:
    """Serve until the block ends."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={host}"]
    request += ["-addext", f"subjectAltName=DNS:{host}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(request, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, tls), daemon=True)
        thread.start()
        yield FakeInstaller(f"http://127.0.0.1:{listener.getsockname()[1]}", certificate)
        # A blocked accept() ends with the connection, not with the closed socket.
        with suppress(OSError), socket.create_connection(listener.getsockname()):
            pass
        thread.join()


def _serve(listener: socket.socket, tls: ssl.SSLContext) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            if not connection.recv(65536).startswith(b"CONNECT "):
                return
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            with tls.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                length = str(len(INSTALLER)).encode()
                secure.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n")
                secure.sendall(INSTALLER)
