"""Client mirrors AsyncClient, all the way down: found by walking both, so that what is added to one must be in the other."""

import functools
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nimclient
from nimclient import AsyncClient, Client
from nimclient._base.types import Closing
from support.blocking_words import as_blocking

AsyncChat: Any = type(AsyncClient(base_url="http://x").chat)
Chat: Any = type(Client(base_url="http://x").chat)

RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
"""Names of a loop's world, and what they are called outside it."""

CROSSINGS = {
    ("AnswerStream", "wait"),
    ("AnswerStream", "ready"),
    ("AnswerStream", "is_late"),
    ("EventStream", "wait"),
    ("EventStream", "ready"),
    ("AsCompleted", "wait"),
    ("AsCompleted", "take"),
    ("AsCompleted", "tell"),
    ("AsCompleted", "held"),
    ("AsCompleted", "is_ready"),
    ("EmbedStream", "take_ready"),
}
"""What a blocking object, or a job, needs of the one behind it: no part of the public face."""


PROPERTIES = (property, functools.cached_property)

PLAIN = {"TextStream": "Iterator[str]"}
"""Classes of a loop's world that are nothing of our own outside it."""


@functools.cache
def classes(*, blocking: bool = False) -> dict[str, type]:
    """All classes of the core by name: those of the loop's world, or the blocking ones."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(nimclient.__path__, "nimclient."):
        wing = re.match(r"nimclient\.(simulator|cli|integrations|testing|jobs|__main__)", module.name)
        if not wing and module.name.startswith("nimclient._sync") == blocking:
            members = vars(importlib.import_module(module.name)).values()
            found.update({m.__name__: m for m in members if inspect.isclass(m) and m.__module__ == module.name})
    return found


def twin_of(name: str) -> str:
    """What the blocking class is called: AsyncChat and Chat, ChatStream and SyncChatStream."""
    return name.removeprefix("Async") if name.startswith("Async") else f"Sync{name}"


def is_of_a_loop(cls: type) -> bool:
    """Whether a class has anything to await."""
    return any(inspect.iscoroutinefunction(value) for base in cls.__mro__ for value in vars(base).values())


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Public members, and the special methods of a loop, without those of the standard library's base classes."""
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("nimclient"):
            for name, value in vars(base).items():
                if (not name.startswith("_") or name in RENAMED) and (base.__name__, name) not in CROSSINGS:
                    yield name, value


def function_of(member: Any) -> Any:
    """The function of a method or property."""
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    return getattr(member, "__func__", member)


def returned(function: Any) -> list[type]:
    """The classes of the core that a method returns, or a property is, if they belong to a loop."""
    forms = [function, *typing.get_overloads(function)]
    words = [w for form in forms for w in re.findall(r"\w+", str(inspect.signature(form).return_annotation))]
    return [classes()[word] for word in words if word in classes() and is_of_a_loop(classes()[word])]


def blocking(text: str) -> str:
    """An annotation as it reads in the blocking class."""
    twins = classes(blocking=True)
    return re.sub(r"\w+", lambda w: PLAIN.get(w[0], twin_of(w[0]) if twin_of(w[0]) in twins else w[0]), text)


def differences(asynchronous: type, seen: set[str]) -> Iterator[str]:
    """What the blocking twin of a class lacks or has otherwise, and the twins of all that can be reached from it."""
    if asynchronous.__name__ in seen or asynchronous.__name__ in PLAIN:
        return
    seen.add(asynchronous.__name__)
    twin = classes(blocking=True).get(twin_of(asynchronous.__name__))
    if twin is None:
        yield f"{asynchronous.__name__} has no {twin_of(asynchronous.__name__)}"
        return
    for name, member in members(asynchronous):
        other = inspect.getattr_static(twin, RENAMED.get(name, name), None)
        where = f"{twin.__name__}.{RENAMED.get(name, name)}"
        if other is None:
            yield f"{where} is missing"
        elif name not in RENAMED:
            yield from unlike(where, member, other)
        if callable(function := function_of(member)):
            for found in returned(function):
                yield from differences(found, seen)


def unlike(where: str, member: Any, other: Any) -> Iterator[str]:
    """How two members differ: kind, signature, docstring."""
    if isinstance(member, PROPERTIES) != isinstance(other, PROPERTIES):
        yield f"{where} is a {type(other).__name__}"
        return
    function, twin = function_of(member), function_of(other)
    if inspect.iscoroutinefunction(twin):
        yield f"{where} does not block"
    mine, its = inspect.signature(function), inspect.signature(twin)
    kinds = [
        [(p.name, p.kind, p.default, blocking(str(p.annotation))) for p in s.parameters.values()] for s in (mine, its)
    ]
    if kinds[0] != kinds[1]:
        yield f"{where} has another signature: {its} instead of {mine}"
    returns = str(mine.return_annotation)
    wanted = {"Self", where.partition(".")[0]} if returns == "Self" else {blocking(returns)}
    if its.return_annotation not in wanted:
        yield f"{where} returns {its.return_annotation} instead of {mine.return_annotation}"
    if inspect.getdoc(twin) != as_blocking(inspect.getdoc(function)):
        yield f"{where} has another docstring"


def found() -> list[str]:
    """All differences there are."""
    classes.cache_clear()
    return list(differences(AsyncClient, set()))


def test_the_blocking_client_mirrors_the_other() -> None:
    """Names, signatures and docstrings of all that can be reached are the same."""
    assert found() == []


def test_the_walk_reaches_everything() -> None:
    """It goes through namespaces, streams, conversations and iterators."""
    seen: set[str] = set()
    list(differences(AsyncClient, seen))
    assert seen >= {
        "AsyncClient",
        "AsyncChat",
        "AsyncCompletions",
        "AsyncEmbeddings",
        "AsyncModels",
        "AsyncHealth",
        "ChatStream",
        "CompletionStream",
        "EventStream",
        "Conversation",
        "AsCompleted",
        "EmbedStream",
    }


async def shout(self: Any, text: str) -> str:
    """Say it loudly."""
    return text.upper()


def whisper(self: Any, text: str) -> "AsyncWhisper":
    """Say it softly."""
    raise NotImplementedError


class AsyncWhisper:
    async def hear(self) -> None:
        """Listen."""


def another_signature(self: Any, query: str) -> None:
    """Sort."""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch: patch.setattr(AsyncChat, "shout", shout, raising=False), "Chat.shout is missing"),
        (lambda patch: patch.setattr(AsyncClient, "shout", shout, raising=False), "Client.shout is missing"),
        (
            lambda patch: patch.setattr(nimclient.ChatStream, "shout", shout, raising=False),
            "SyncChatStream.shout is missing",
        ),
        (
            lambda patch: patch.setattr(nimclient.Conversation, "shout", shout, raising=False),
            "SyncConversation.shout is mis",
        ),
        (lambda patch: patch.delattr(Chat, "create"), "Chat.create is missing"),
        (lambda patch: patch.delattr(Closing, "__enter__"), "Client.__enter__ is missing"),
        (lambda patch: patch.setattr(Chat, "create", AsyncChat.create), "Chat.create does not block"),
        (lambda patch: patch.setattr(Client, "rerank", another_signature), "Client.rerank has another signature"),
        (lambda patch: patch.setattr(Client, "rerank", another_signature), "Client.rerank has another docstring"),
        (lambda patch: patch.setattr(Client, "chat", property(another_signature)), "Client.chat returns"),
        (lambda patch: patch.setattr(Client, "base_url", another_signature), "Client.base_url is a function"),
    ],
)
def test_the_walk_finds_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None], said: str
) -> None:
    """A method without a twin, another signature or docstring does not pass."""
    change(monkeypatch)
    assert any(difference.startswith(said) for difference in found()), found()


def test_the_walk_finds_a_class_without_a_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new kind of object that has something to await needs a blocking one."""
    monkeypatch.setattr(AsyncChat, "whisper", whisper, raising=False)
    classes.cache_clear()
    monkeypatch.setitem(classes(), "AsyncWhisper", AsyncWhisper)
    assert "AsyncWhisper has no Whisper" in list(differences(AsyncClient, set()))
    classes.cache_clear()


def test_a_blocking_method_is_known_by_its_own_name() -> None:
    """In tracebacks, help() and pickles of bound methods it is called what it is called."""
    assert Client.close.__qualname__ == "Client.close"
    assert Chat.create.__qualname__ == "Chat.create"
    assert Chat.batch.__qualname__ == "Chat.batch"
    assert Chat.create.__module__ == "nimclient._sync.client"
    assert not inspect.iscoroutinefunction(inspect.unwrap(Chat.create))
