"""The capture of a session that the page on security shows."""

from benchmarks.contacts import session

CATALOG = "integrate.api.nvidia.com"


def test_a_session_contacts_the_configured_host_and_no_other() -> None:
    """A chat and two embeddings are two requests to the catalog, and nothing is sent elsewhere, at the end neither."""
    seen, elsewhere = session("nimclient")
    assert seen == {(CATALOG, "POST /v1/chat/completions"): 1, (CATALOG, "POST /v1/embeddings"): 1}
    assert elsewhere == []
