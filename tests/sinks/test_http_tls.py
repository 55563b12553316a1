"""SINK=http believes only a target that can prove who it is."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from delayed_consumer.clock import SystemClock
from delayed_consumer.errors import ConfigError, RetryableError
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.http import HttpHandler
from tests.sinks.posting import REQUIRED, Handle, record, sent
from tests.support.http_server import (
    HttpTarget,
    dripping,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own, and certificates signed by it: for 127.0.0.1, for another name, and an expired one."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, host, days in (
        ("good", "IP:127.0.0.1", "2"),
        ("other", "DNS:other.example", "2"),
        ("old", "IP:127.0.0.1", "-1"),
    ):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / f"{name}.ext").write_text(f"subjectAltName={host}\nbasicConstraints=CA:FALSE\n")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext", "-days", days)
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")
    return directory


@pytest.fixture
def tls(certificates: Path) -> Iterator[Callable[[str], HttpTarget]]:
    """Starts a server with one of the certificates."""
    started: list[HttpTarget] = []

    def start(name: str) -> HttpTarget:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        started.append(HttpTarget(tls=context).__enter__())
        return started[-1]

    yield start
    for server in started:
        server.__exit__()


def test_a_target_with_a_certificate_of_the_given_authority_is_believed(
    tls: Callable[[str], HttpTarget], handler: Handle, certificates: Path
) -> None:
    target = tls("good")
    handle = handler(target.url, SINK_HTTP_CA_LOCATION=certificates / "ca.pem")
    value = b"x" * 5_000_000
    assert sent(target, handle, record(value)).body == value
    assert sent(target, handle, record()).connection == 1


@pytest.mark.parametrize(
    ("certificate", "trusted", "reason"),
    [
        ("good", False, "certificate is refused: .*(self-signed|unable to get local issuer)"),
        ("other", True, "certificate is refused: IP address mismatch"),
        ("old", True, "certificate is refused: certificate has expired"),
    ],
)
def test_a_target_that_cannot_prove_who_it_is_gets_nothing(
    tls: Callable[[str], HttpTarget],
    handler: Handle,
    certificates: Path,
    certificate: str,
    trusted: bool,
    reason: str,
) -> None:
    target = tls(certificate)
    trust = {"SINK_HTTP_CA_LOCATION": certificates / "ca.pem"} if trusted else {}
    with pytest.raises(RetryableError, match=reason):
        handler(target.url, **trust)(record())
    assert not target.requests


def test_plain_text_on_the_other_side_of_tls_is_retryable(target: HttpTarget, handler: Handle) -> None:
    with pytest.raises(RetryableError, match="no whole answer: "):
        handler(target.url.replace("http:", "https:"))(record())


def test_an_encrypted_answer_that_drips_ends_with_the_total_timeout(
    tls: Callable[[str], HttpTarget], handler: Handle, certificates: Path, over: threading.Event
) -> None:
    target = tls("good")
    target.script.append(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", over))
    trust = {"SINK_HTTP_CA_LOCATION": certificates / "ca.pem"}
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="no whole answer in time"):
        handler(target.url, SINK_HTTP_TIMEOUT_SECONDS=1, **trust)(record())
    assert 0.9 < time.monotonic() - begun < 10


def test_authorities_that_went_away_after_the_settings_were_read_are_a_bad_setting(
    tmp_path: Path, certificates: Path
) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes((certificates / "ca.pem").read_bytes())
    settings = Settings({**REQUIRED, "SINK_URL": "https://host/", "SINK_HTTP_CA_LOCATION": str(authorities)})
    authorities.unlink()
    with pytest.raises(ConfigError, match="SINK_HTTP_CA_LOCATION"):
        HttpHandler(settings, SystemClock())
