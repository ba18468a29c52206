"""The namespaces of a client: thin async methods that build a call and send it."""
