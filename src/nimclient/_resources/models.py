"""client.models: the models of a server, with data from the model table."""

from __future__ import annotations

from attrs import evolve

from nimclient._api import catalog
from nimclient._api.models import get_call, list_call
from nimclient._api.options import check_word
from nimclient._resources.base import Resource
from nimclient._retry.faults import no_route
from nimclient.errors import ModelNotFoundError, NotFoundError
from nimclient.records.models import Model, ModelList


class AsyncModels(Resource):
    """Models (GET /v1/models)."""

    async def list(self, kind: str | None = None) -> ModelList:
        """The models of the server with data from the model table; optionally of one kind.

        `kind`: chat, vlm (chat that reads images), embedding, ranking, completions or unknown. Models with their own
        URL follow those the server lists: yours (`endpoints=`), and those of the hosted catalog, whose list omits rerankers.
        It also lists models that your account may not call: `.callable` is None until a call has shown it.
        """
        check_word("kind", kind, catalog.KINDS)
        models = self._described(await self._engine.send(list_call(), {}))
        if kind is None:
            return models
        return ModelList([model for model in models if model.kind == kind], models.meta, models.extra)

    async def get(self, id: str) -> Model:
        """One model by id or alias. Raises ModelNotFoundError if it is neither on the server nor in the table."""
        call = get_call(id)
        name = self._resolved(id)
        try:
            found = await self._engine.send(call if name == id else get_call(name), {})
        except NotFoundError as error:
            known = await self._listed(name)
            if known is None:
                if isinstance(error, ModelNotFoundError):
                    raise
                raise no_route(error, f"the server lists no model {name!r}", ModelNotFoundError) from error
            return known
        return evolve(self._described(ModelList([found]))[0], meta=found.meta)

    async def _listed(self, id: str) -> Model | None:
        """For servers without /models/{id}: the entry of the list, else yours, or in the hosted catalog the table's."""
        engine = self._engine
        known = catalog.lookup(id)
        names = {id, known.id} if known else {id}
        listed = await self.list()
        found = next((evolve(model, meta=listed.meta) for model in listed if model.id in names and model.listed), None)
        return found or engine.catalog.own.get(id) or (known if engine.is_platform() else None)
