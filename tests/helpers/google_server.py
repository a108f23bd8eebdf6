"""Serve ``gs://``: the XML interface of Google's storage is S3's, except signatures, conditions.

It is moto's S3 server behind a translation of the two headers in which they differ. No emulator of
Google's storage accepts the writes of our client (docs/sources.md).
"""

import sys

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_SOMEBODY = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
_s3 = DomainDispatcherApplication(create_backend_app)


def application(environment, start_response):
    """Answer one request."""
    if environment.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
        environment["HTTP_IF_NONE_MATCH"] = "*"
    environment["HTTP_AUTHORIZATION"] = _SOMEBODY
    return _s3(environment, start_response)


if __name__ == "__main__":
    import threading

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
