"""The versions of the models: what is loaded, what answers, and bundles as new versions. Only with `--models FOLDER`."""

import asyncio
from pathlib import Path

from fastapi import APIRouter
from pydantic import Field

from research.serving.web import loading, problems
from research.serving.web.openai_schema import Strict
from research.serving.web.served import Limits, Models, Served
from research.serving.web.versions import Traffic, Versions
from research.util.errors import UserError


class LoadRequest(Strict):
    """A bundle, by its path below the server's folder of bundles."""

    folder: str = Field(min_length=1, max_length=1024)


def router(models: Models, limits: Limits, root: Path) -> APIRouter:
    routes = APIRouter(prefix="/v1/admin/models/{name}", tags=["versions"])
    loading_one = asyncio.Lock()  # two compilations at once would take from the requests twice

    def versions_of(name: str) -> Versions[Served]:
        return models.versions[models[name].servable.name]

    @routes.get("", summary="The versions that are loaded, and which of them answer")
    async def show(name: str) -> dict:
        return _state(versions_of(name))

    @routes.put("", summary="Switch to another version, or back; let a canary answer a share of the requests")
    async def direct(name: str, traffic: Traffic) -> dict:
        versions_of(name).direct(traffic)
        return _state(versions_of(name))

    @routes.post(
        "/versions", status_code=201, summary="Load a bundle as a new version, which is then ready to be switched to"
    )
    async def load(name: str, request: LoadRequest) -> dict:
        versions = versions_of(name)
        async with loading_one:
            number = versions.newest + 1
            try:
                version = await asyncio.to_thread(loading.load, root, request.folder, versions.latest, number, limits)
            except UserError as error:
                raise problems.of_user(error, "folder") from None
            versions.add(version)
        return {"version": number, **_state(versions)}

    @routes.delete("/versions/{number}", summary="Unload a version, once its requests are answered")
    async def unload(name: str, number: int) -> dict:
        await versions_of(name).remove(number, limits.drain)
        return _state(versions_of(name))

    return routes


def _state(versions: Versions[Served]) -> dict:
    loaded = {
        str(number): {"version": model.servable.version, "requests": versions.requests(number)}
        for number, model in versions.loaded.items()
    }
    return {"name": versions.name, **versions.traffic.model_dump(), "loaded": loaded}
