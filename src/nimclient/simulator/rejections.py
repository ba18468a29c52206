"""Error responses: one exception that every check raises and every dialect encodes as its own JSON."""


class Rejection(Exception):
    """A request that the simulator rejects.

    `status` is the HTTP status, `message` the text, `type` the error's name in vLLM and `param` the
    field at fault, where there is one.
    """

    def __init__(self, status: int, message: str, *, type: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param


class GenerationRejection(Rejection):
    """A rejection while the answer is generated; in a stream that has started it is an error event."""


def bad_field(name: str, problem: str) -> Rejection:
    """A 400 that names the field and what is wrong with it."""
    return Rejection(400, f"{name}: {problem}", param=name)


def invalid_field(name: str, kind: str, problem: str) -> Rejection:
    """A 400 in the form of vLLM's request validation, which names the field in a `loc`."""
    message = f"[{{'type': '{kind}', 'loc': ('body', '{name}'), 'msg': '{problem}'}}]"
    return Rejection(400, message, type="Bad Request", param=name)


def unknown_model(name: str) -> Rejection:
    """vLLM's answer to a model it does not serve."""
    return Rejection(404, f"The model `{name}` does not exist.", type="NotFoundError", param="model")
