"""The namespaces of a client (client.chat, .embeddings, …): find the model, build the call, send it."""
