"""The table of servers and features is what the servers answer."""

import pytest

from nimclient import AsyncClient, RetryPolicy
from servers import dynamo as real_dynamo
from servers import features
from servers.dynamo import Dynamo

ONCE = RetryPolicy(attempts=1)


async def test_the_page_is_what_the_servers_answer() -> None:
    """The page has the simulator's answers in four dialects, asked now, and those of real servers that are kept."""
    assert features.PAGE.read_text() == features.page(await features.all_columns()), "python -m servers.features"


@pytest.mark.dynamo
@pytest.mark.slow
async def test_what_dynamo_can_do(dynamo: Dynamo) -> None:
    """Each feature of the table gives what the page says of Dynamo's frontend."""
    async with AsyncClient(base_url=dynamo.base_url, model=real_dynamo.MODEL, retry=ONCE) as client:
        features.compare(f"Dynamo {real_dynamo.VERSION}, mocker", await features.ask(client))
