"""Settings of buckets come from the environment and ``--store``, without secrets."""

import os

import pytest

from transforms.errors import UserError
from transforms.storage import PermissionDenied, open_storage
from transforms.storage.bucket import Bucket
from transforms.storage.settings import (
    client_options,
    environment_settings,
    open_client,
    parse_store,
    plain_http,
)

EMULATOR = '{"gcs_base_url": "http://localhost:4443", "disable_oauth": true, '
EMULATOR += '"client_email": "", "private_key": "", "private_key_id": ""}'


@pytest.fixture(autouse=True)
def _no_stores(monkeypatch):
    for name in [
        name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "STORAGE_"))
    ]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("scheme", "environment", "settings"),
    [
        ("s3", {}, {}),
        ("s3", {"AWS_ENDPOINT_URL": "http://m:9", "AWS_DEFAULT_REGION": "eu-1",
                "AWS_SECRET_ACCESS_KEY": "k"},
         {"endpoint": "http://m:9", "region": "eu-1"}),
        ("s3", {"AWS_ENDPOINT_URL_S3": "https://a", "AWS_ENDPOINT_URL": "http://b"},
         {"endpoint": "https://a"}),
        ("s3", {"AWS_ALLOW_HTTP": "1", "AWS_SKIP_SIGNATURE": "True"},
         {"allow-http": "true", "anonymous": "true"}),
        ("gs", {}, {}),
        ("gs", {"STORAGE_EMULATOR_HOST": "h:4443"},
         {"endpoint": "http://h:4443", "anonymous": "true"}),
        ("gs", {"GOOGLE_BASE_URL": "http://h", "GOOGLE_SKIP_SIGNATURE": "true"},
         {"endpoint": "http://h", "anonymous": "true"}),
        ("az", {"AZURE_STORAGE_ENDPOINT": "http://z/a", "AZURE_STORAGE_ACCOUNT_KEY": "k"},
         {"endpoint": "http://z/a"}),
    ],
)  # fmt: skip
def test_the_environment_of_each_cloud(scheme, environment, settings):
    assert environment_settings(scheme, environment) == settings


@pytest.mark.parametrize(
    ("stores", "scheme", "bucket", "options"),
    [
        (["s3://,endpoint=http://m:9,region=eu-1"], "s3", "b",
         {"aws_endpoint_url": "http://m:9", "aws_region": "eu-1", "allow_http": "true"}),
        (["s3://,endpoint=http://m:9,allow-http=false"], "s3", "b", {"aws_endpoint_url": "http://m:9"}),
        (["s3://b,anonymous=true", "s3://,region=r,anonymous=false"], "s3", "b",
         {"aws_region": "r", "aws_skip_signature": "true"}),
        (["s3://b,anonymous=true"], "s3", "other", {}),
        (["s3://b,anonymous=true"], "gs", "b", {}),
        (["gs://b,anonymous=true"], "gs", "b", {"google_skip_signature": "true"}),
        (["gs://,endpoint=http://localhost:4443,anonymous=true"], "gs", "b",
         {"google_service_account_key": EMULATOR, "allow_http": "true"}),
        (["az://,endpoint=https://z/a,account=photos1"], "az", "c",
         {"azure_storage_endpoint": "https://z/a", "azure_storage_account_name": "photos1"}),
    ],
)  # fmt: skip
def test_an_option_says_it_for_one_bucket_or_for_all(stores, scheme, bucket, options):
    assert client_options(scheme, bucket, tuple(stores)) == options


def test_an_option_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://env:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    stores = ("s3://b,endpoint=https://option,anonymous=false",)
    assert client_options("s3", "b", stores) == {
        "aws_endpoint_url": "https://option",
        "aws_skip_signature": "false",
    }
    assert client_options("s3", "c", stores)["aws_endpoint_url"] == "http://env:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://b", "write s3://BUCKET,KEY=VALUE"),
        ("s3://b/key,region=x", "no key in it"),
        ("http://b,region=x", "s3, gs or az"),
        (
            "s3://b,secret_access_key=hunter2",
            "'secret_access_key' is not a setting; allowed: endpoint, region, anonymous",
        ),
        ("s3://b,region=us-1,access_key_id=hunter2", "Credentials come from the environment only"),
        ("gs://b,region=hunter2", "allowed: endpoint, anonymous, allow-http"),
        ("s3://b,endpoint=http://me:hunter2@host", "endpoint=…: http://HOST:PORT"),
        ("az://b,endpoint=https://host/?sig=hunter2", "endpoint=…: http://HOST:PORT"),
        ("s3://b,anonymous=hunter2", "true or false"),
        ("s3://b,hunter2", "text without '=' is not a setting"),
    ],
)
def test_what_is_no_setting_is_refused_and_no_value_is_shown(text, message):
    with pytest.raises(UserError) as error:
        parse_store(text)
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)


def test_each_bucket_can_be_elsewhere(s3, misbehaving, s3_endpoint):
    """One bucket is on another server than the environment names."""
    s3.put("k", b"moto's")
    stores = (f"s3://{s3.bucket},endpoint={s3_endpoint}",)
    assert Bucket("s3", s3.bucket, stores).get("k") == b"moto's"
    assert Bucket("s3", "another", stores).get("k") == misbehaving.body


def test_google_emulator_is_found(misbehaving, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", misbehaving.endpoint)
    assert open_storage("gs://bucket").read("k") == misbehaving.body


def test_an_anonymous_request_is_not_signed(s3, s3_endpoint, monkeypatch):
    """The server gives a public object to anyone, a private one only with credentials."""
    s3.client.put_object(Bucket=s3.bucket, Key="public", Body=b"x", ACL="public-read")
    s3.put("private", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    stores = (f"s3://{s3.bucket},endpoint={s3_endpoint},anonymous=true",)
    assert open_storage(s3.url, stores).read("public") == b"x"
    with pytest.raises(PermissionDenied):
        open_storage(s3.url, stores).read("private")


@pytest.mark.parametrize(
    ("endpoint", "plain"), [("http://minio:9000", True), ("https://minio:9000", False), ("", False)]
)
def test_plain_http_is_told_by_the_endpoint(monkeypatch, endpoint, plain):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert plain_http("s3", "bucket") == plain


@pytest.mark.parametrize(
    ("scheme", "name"),
    [("s3", "AWS_SECRET_ACCESS_KEY"), ("gs", "GOOGLE_ANY"), ("az", "AZURE_CLIENT_ID")],
)
def test_a_client_is_opened_again_with_other_credentials(scheme, name, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv(name, "true")
    first = open_client(scheme, "bucket")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert open_client(scheme, "bucket") is first
    monkeypatch.setenv(name, "false")
    assert open_client(scheme, "bucket") is not first
    monkeypatch.setenv(name, "true")
    assert open_client(scheme, "bucket") is first
