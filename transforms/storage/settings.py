"""Find out where buckets are and how to connect, from the environment and from ``--store``.

Endpoint, region, anonymous access and plain http come from each cloud's own environment variables,
which the client reads too. ``--store`` overrides them for one bucket or for all of a scheme.
Credentials come from the environment only. A key that could hold a secret is refused without
showing its value.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

from transforms.errors import UserError

SCHEMES = ("s3", "gs", "az")
# The texts of ``--store``. They are part of a run's configuration, travel with its jobs, and
# contain no secret.
Stores = tuple[str, ...]
# Six retries wait 2.5 s on average and 12.6 s at most: long enough for a short outage, short enough
# to report a wrong endpoint soon.
_RETRY = {
    "max_retries": 6,
    "backoff": {
        "init_backoff": timedelta(seconds=0.2),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
}
_TIMEOUTS = {"connect_timeout": "10s", "read_timeout": "30s", "timeout": "180s"}
# Names of the settings in obstore and deltalake. ``allow-http`` has the same name everywhere.
_NAMES = {
    "s3": {
        "endpoint": "aws_endpoint_url",
        "region": "aws_region",
        "anonymous": "aws_skip_signature",
    },
    "gs": {"endpoint": "google_base_url", "anonymous": "google_skip_signature"},
    "az": {
        "endpoint": "azure_storage_endpoint",
        "account": "azure_storage_account_name",
        "anonymous": "azure_skip_signature",
    },
}
_FORMS = {
    "endpoint": (
        r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._/-]*)?",
        "http://HOST:PORT or https://HOST, no more",
    ),
    "region": (r"[A-Za-z0-9-]+", "a name as in us-east-1"),
    "account": (r"[a-z0-9]+", "the storage account's name"),
    "anonymous": ("true|false", "true or false"),
    "allow-http": ("true|false", "true or false"),
}
# Clients read credentials from variables of these prefixes, once, when they are opened.
_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}


@dataclass(frozen=True, slots=True)
class Store:
    """Settings from ``--store`` for one bucket, or for all buckets of a scheme."""

    scheme: str
    # "" for all buckets.
    bucket: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def parse_store(text: str) -> Store:
    """Parse ``s3://BUCKET,KEY=VALUE,…`` or ``s3://,KEY=VALUE,…``.

    Raises:
        UserError: For an invalid text. The message shows no value, since that may be a secret.
    """
    where, *pairs = text.split(",")
    found = re.fullmatch(r"(s3|gs|az)://([A-Za-z0-9$._-]*)/?", where)
    if not found or not pairs:
        raise UserError(
            "--store: write s3://BUCKET,KEY=VALUE or s3://,KEY=VALUE for all; s3, gs or az, and "
            "no key in it"
        )
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        allowed = [*_NAMES[found[1]], "allow-http"]
        if key not in allowed:
            what = repr(key) if equals else "text without '='"
            raise UserError(
                f"--store {where}: {what} is not a setting; allowed: {', '.join(allowed)}. "
                "Credentials come from the environment only"
            )
        form, words = _FORMS[key]
        if not re.fullmatch(form, value):
            raise UserError(f"--store {where},{key}=…: {words}")
        settings[key] = value
    return Store(found[1], found[2], settings)


@lru_cache(maxsize=256)
def _parsed(stores: Stores) -> list[Store]:
    """Parse every ``--store``; those of a scheme come first, so that those of a bucket override."""
    return sorted(map(parse_store, stores), key=lambda store: bool(store.bucket))


def client_options(scheme: str, bucket: str, stores: Stores = ()) -> dict[str, str]:
    """Return the options of a bucket that a client does not read from the environment itself.

    They never contain a secret. A plain http endpoint is allowed because the user named it.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        bucket: Name of the bucket.
        stores: The texts of ``--store``.

    Raises:
        UserError: For an invalid ``--store``.
    """
    settings = environment_settings(scheme)
    for store in _parsed(stores):
        if store.scheme == scheme and store.bucket in ("", bucket):
            settings |= store.settings
    http = settings.pop("allow-http", None)
    endpoint, anonymous = settings.get("endpoint", ""), settings.get("anonymous") == "true"
    if http is None and endpoint.lower().startswith("http://"):
        http = "true"
    options = {_NAMES[scheme][key]: value for key, value in settings.items() if value}
    if scheme == "gs" and endpoint and anonymous:
        # With only the option to skip the signature, the client still asks Google for a token
        # before each write.
        nobody = {"gcs_base_url": endpoint, "disable_oauth": True}
        nobody |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        options = {"google_service_account_key": json.dumps(nobody)}
    return options | ({"allow_http": "true"} if http == "true" else {})


def environment_settings(
    scheme: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the settings in a cloud's own environment variables, under the names of ``--store``.

    Google's emulator variable implies anonymous access.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        environment: The variables.
    """

    def first(*names: str) -> str:
        return next((environment[name] for name in names if environment.get(name)), "")

    if scheme == "s3":
        settings = {
            "endpoint": first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
            "region": first("AWS_REGION", "AWS_DEFAULT_REGION"),
            "anonymous": first("AWS_SKIP_SIGNATURE").lower(),
            "allow-http": first("AWS_ALLOW_HTTP").lower(),
        }
    elif scheme == "gs":
        emulator = first("STORAGE_EMULATOR_HOST")
        settings = {
            "endpoint": emulator if not emulator or "://" in emulator else f"http://{emulator}",
            "anonymous": "true" if emulator else first("GOOGLE_SKIP_SIGNATURE").lower(),
        }
        settings["endpoint"] = settings["endpoint"] or first("GOOGLE_BASE_URL")
    else:
        settings = {
            "endpoint": first("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
            "anonymous": first("AZURE_SKIP_SIGNATURE").lower(),
        }
    settings |= {key: "true" for key in ("anonymous", "allow-http") if settings.get(key) == "1"}
    return {key: value for key, value in settings.items() if value}


def open_client(scheme: str, bucket: str, stores: Stores = ()) -> Any:
    """Return the obstore client of a bucket, without sending any request.

    A client is opened once per process, and again when the environment has other credentials.

    Raises:
        UserError: For an invalid ``--store``.
    """
    options = tuple(sorted(client_options(scheme, bucket, stores).items()))
    return _open(scheme, bucket, options, _credentials(scheme))


def _credentials(scheme: str) -> int:
    """Return a hash of a cloud's variables: two of them tell whether a client is out of date."""
    prefix = _PREFIXES[scheme]
    return hash(frozenset(pair for pair in os.environ.items() if pair[0].startswith(prefix)))


def plain_http(scheme: str, bucket: str, stores: Stores = ()) -> bool:
    """Tell whether plain http is allowed for a bucket."""
    return client_options(scheme, bucket, stores).get("allow_http") == "true"


@lru_cache(maxsize=256)
def _open(scheme: str, bucket: str, options: tuple[tuple[str, str], ...], credentials: int) -> Any:
    from obstore import store

    config = dict(options)
    client: dict[str, Any] = dict(_TIMEOUTS)
    if config.pop("allow_http", ""):
        client["allow_http"] = True
    kind = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}[scheme]
    return kind(bucket, config=config, client_options=client, retry_config=_RETRY)
