"""What the settings of SINK=http say of each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from delayed_consumer.masking import mask_text
from delayed_consumer.setting_values import is_loopback
from delayed_consumer.sinks.http_address import Target, read_url
from delayed_consumer.sinks.http_authorities import tls_context

if TYPE_CHECKING:
    from delayed_consumer.settings import Settings

_LOGIN = ("sink_http_username", "sink_http_password")
_CREDENTIALS = ("sink_http_bearer_token", *_LOGIN, "sink_http_headers")


def unencrypted(settings: Settings) -> Iterator[str]:
    target = _target(settings)
    if target is None or target.scheme == "https" or is_loopback(str(target)):
        return
    given = [name.upper() for name in _CREDENTIALS if getattr(settings, name)]
    what = f"{', '.join(given)} and every record" if given else "every record"
    yield f"SINK_URL: http sends {what} unencrypted to {target}; use https"


def one_way_to_authenticate(settings: Settings) -> Iterator[str]:
    given = [name.upper() for name in _LOGIN if getattr(settings, name) is not None]
    if len(given) == 1:
        yield f"{given[0]} needs {'SINK_HTTP_PASSWORD' if given == ['SINK_HTTP_USERNAME'] else 'SINK_HTTP_USERNAME'}"
    ways = given[:1]
    if settings.sink_http_bearer_token is not None:
        ways.append("SINK_HTTP_BEARER_TOKEN")
    if any(name.lower() == "authorization" for name in settings.sink_http_headers):
        ways.append("Authorization in SINK_HTTP_HEADERS")
    if len(ways) > 1:
        yield f"{' and '.join(ways)} both authenticate; use one of them"


def authorities(settings: Settings) -> Iterator[str]:
    path, target = settings.sink_http_ca_location, _target(settings)
    if path is None:
        return
    if target is not None and target.scheme == "http":
        yield "SINK_HTTP_CA_LOCATION without effect: SINK_URL is not encrypted; use https"
    try:
        tls_context(path)
    except OSError as error:
        yield f"SINK_HTTP_CA_LOCATION={mask_text(path)!r}: no certificates can be read there: {error.strerror}"


def _target(settings: Settings) -> Target | None:
    return None if settings.sink_url is None else read_url(settings.sink_url)


RULES = {
    one_way_to_authenticate: (*_LOGIN, "sink_http_bearer_token", "sink_http_headers"),
    authorities: ("sink_http_ca_location", "sink_url"),
}
