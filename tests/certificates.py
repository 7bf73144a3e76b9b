"""Certificates made in the test run, for servers with TLS."""

from __future__ import annotations

from pathlib import Path

import trustme


class Certificates:
    """A certificate authority and one server certificate, as files in ``folder``.

    ``files`` maps the names that redis.conf uses between ``tls-`` and ``-file`` to paths; ``hosts`` are the names and
    addresses that the certificate is good for.
    """

    def __init__(self, folder: Path, *hosts: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert(*(hosts or ("127.0.0.1", "localhost", "::1")))
        names = {"ca-cert": "ca.pem", "cert": "server.pem", "key": "server.key"}
        self.files = {kind: str(folder / name) for kind, name in names.items()}
        authority.cert_pem.write_to_path(self.files["ca-cert"])
        certificate.private_key_pem.write_to_path(self.files["key"])
        for block in certificate.cert_chain_pems:
            block.write_to_path(self.files["cert"], append=True)

    @property
    def ca(self) -> str:
        """Path of the authority's certificate, redis-py's ``ssl_ca_certs``."""
        return self.files["ca-cert"]
