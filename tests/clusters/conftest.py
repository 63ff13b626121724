import threading

import pytest


@pytest.fixture(scope="session")
def s3_server():
    """A real server that speaks S3, on loopback: its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Give the URI of an experiment folder in a new bucket, by the address through which it is reached."""
    import uuid

    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = f"b{uuid.uuid4().hex[:8]}"
    client = boto3.client("s3", endpoint_url=f"http://{s3_server}", region_name="us-east-1")
    client.create_bucket(Bucket=bucket)

    def uri(endpoint=s3_server, bucket=bucket):
        return f"s3://{bucket}/runs/one?endpoint_override={endpoint}&scheme=http&region=us-east-1"

    return uri


class FaultyProxy:
    """Stands between a client and an S3 server and breaks requests that ``fault`` chooses."""

    def __init__(self, upstream, fault):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                import http.client

                body = self._body()
                answer = fault(self.command, self.path)
                if answer is None:
                    connection = http.client.HTTPConnection(upstream, timeout=10)
                    headers = {
                        k: v for k, v in self.headers.items() if k.lower() not in {"expect", "transfer-encoding"}
                    }
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    answer = response.status, response.read(), response.getheaders()
                status, content, headers = answer
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                length = dict(headers).get("Content-Length", len(content)) if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def _body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

            def log_message(self, format, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def faulty(s3_server):
    """Return a function that puts a proxy with a fault before the S3 server, and gives its address."""
    proxies = []

    def make(fault):
        proxies.append(FaultyProxy(s3_server, fault))
        return proxies[-1].address

    yield make
    for proxy in proxies:
        proxy.close()
