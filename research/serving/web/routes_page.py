"""A page to try the models on, at `/`. All that it needs comes from this server, and its policy lets it ask no other."""

from pathlib import Path

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

FOLDER = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # another version of the server has another page
}


def router() -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}

    @routes.get("/")
    async def index() -> Response:
        return _answer(files["index.html"])

    @routes.get("/page/{name}")
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return _answer(files[name])

    return routes


def _answer(path: Path) -> Response:
    return Response(path.read_bytes(), headers=HEADERS, media_type=TYPES[path.suffix])
