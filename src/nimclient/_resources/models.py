"""client.models: what a server serves, and what our table knows of it."""

from __future__ import annotations

from attrs import evolve

from nimclient._protocol import catalog
from nimclient._protocol.models import get_call, list_call
from nimclient._protocol.options import check_word
from nimclient._resources.base import Resource
from nimclient.errors import NotFoundError
from nimclient.records.models import Model, ModelList


class AsyncModels(Resource):
    """Models (GET /v1/models)."""

    async def list(self, kind: str | None = None) -> ModelList:
        """The models of the server with what our table knows of each; of one kind if asked for.

        `kind`: chat, vlm, embedding, ranking, completions or unknown. The hosted catalog lists models that your account
        may not call, and leaves rerankers out.
        """
        check_word("kind", kind, catalog.KINDS)
        models = catalog.described(await self._engine.send(list_call(), {}))
        if kind is None:
            return models
        return ModelList([model for model in models if model.kind == kind], models.meta, models.extra)

    async def get(self, id: str) -> Model:
        """One model by id or alias. Raises ModelNotFoundError when neither the server nor the table knows it."""
        call = get_call(id)
        try:
            found = await self._engine.send(call, {})
        except NotFoundError:
            known = await self._listed(id)
            if known is None:
                raise
            return known
        return evolve(catalog.described(ModelList([found]))[0], meta=found.meta)

    async def _listed(self, id: str) -> Model | None:
        """For servers without /models/{id}: the entry of the list; for the hosted catalog else the table's."""
        known = catalog.lookup(id)
        names = {id, known.id} if known else {id}
        listed = await self.list()
        found = next((evolve(model, meta=listed.meta) for model in listed if model.id in names), None)
        return found or (known if self._engine.is_hosted else None)
