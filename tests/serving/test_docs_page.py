"""The page of the API works without the web."""

from __future__ import annotations

import re

from service import Running


def test_the_page_loads_nothing_from_elsewhere(service: Running) -> None:
    with service.http() as client:
        page = client.get("/docs")
        assert page.status_code == 200 and "swagger-ui" in page.text
        for address in re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page.text):
            assert not re.match(r"(https?:)?//", address), address
            if address.startswith("data:"):
                continue
            file = client.get(f"/{address.lstrip('/')}")
            assert file.status_code == 200 and len(file.content) > 10_000
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "http" not in re.sub(r"<!--.*?-->", "", page.text).replace("http-equiv", "")
        assert client.get("/docs/swagger-ui-bundle.js").headers["content-type"].startswith("text/javascript")
        for other in ("/docs/..%2f..%2f__init__.py", "/docs/swagger-initializer.js", "/docs/x"):
            assert client.get(other).status_code == 404


def test_the_document_is_one_that_the_page_can_show(service: Running) -> None:
    with service.http() as client:
        document = client.get("/openapi.json").json()
        page = client.get("/docs").text
        bundle = client.get("/docs/swagger-ui-bundle.js").text
    assert "openapi.json" in page
    assert document["openapi"].startswith("3.1") and "oas31" in bundle
