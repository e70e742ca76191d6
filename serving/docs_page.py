"""``GET /docs``: Swagger UI on the OpenAPI document, from files of this machine.

BentoML, which every package carries, ships Swagger UI for its own pages; the same files are served here. FastAPI's own page
loads them from the web.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, Response

from serving.admission import DOCS
from serving.errors import ApiError

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
FOLDER = Path("_internal", "server", "static_content")
"""Where BentoML keeps them; not public, so its version is bounded and a test looks."""
INLINE = "'self' 'unsafe-inline'"
NOTHING_FROM_OUTSIDE = f"default-src 'self'; script-src {INLINE}; style-src {INLINE}; img-src 'self' data:"
"""Content security policy: a browser that honours it loads nothing from elsewhere, whatever the page says."""


def add_docs(app: FastAPI) -> None:
    """Add the page and its files."""

    @app.get(DOCS, include_in_schema=False)
    async def page() -> Response:
        response = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="modellab",
            swagger_js_url=f"{DOCS[1:]}/swagger-ui-bundle.js",
            swagger_css_url=f"{DOCS[1:]}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        response.headers["Content-Security-Policy"] = NOTHING_FROM_OUTSIDE
        return response

    @app.get(f"{DOCS}/{{name}}", include_in_schema=False)
    async def file(name: str) -> Response:
        path = _folder() / name
        if name not in FILES or not path.is_file():
            raise ApiError(404, "There is nothing at this address.", code="not_found")
        return FileResponse(path, media_type=FILES[name])


def _folder() -> Path:
    found = importlib.util.find_spec("bentoml")
    if found is None or not found.submodule_search_locations:
        raise ApiError(404, "Swagger UI comes with bentoml, which is not installed here.", code="not_found")
    return Path(found.submodule_search_locations[0]) / FOLDER
