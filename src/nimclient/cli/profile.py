"""Settings of the command line that are kept in a file: servers and models under a name. A key is never among them.

`$XDG_CONFIG_HOME/nimclient.toml`, else `~/.config/nimclient.toml`:

    base_url = "http://localhost:8000"          # without --profile

    [profiles.gpu]                              # --profile gpu
    base_url = ["http://gpu1:8000", "http://gpu2:8000"]
    api_key_file = "~/.secrets/gpu"
    timeout = 60
    model = { chat = "meta/llama-3.1-8b-instruct", embedding = "nvidia/nv-embedqa-e5-v5" }
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from nimclient.cli.failures import UsageError

_SETTINGS = ("base_url", "model", "timeout", "api_key_file")
_KINDS = ("chat", "embedding", "ranking", "completions")
_KIND_OF = {"chat": "chat", "demo": "chat", "embed": "embedding", "rerank": "ranking"}
_KIND_OF_BENCH = {"chat": "chat", "embed": "embedding", "rerank": "ranking"}
_ASK_NO_MODEL = ("models", "doctor")


def config_path() -> Path:
    """Where the file is expected."""
    return Path(os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")) / "nimclient.toml"


def apply_profile(args: argparse.Namespace) -> None:
    """Set the options that the command line leaves out to those of the profile.

    The settings outside of any profile hold without --profile; there NVIDIA_BASE_URL goes before the file's base_url.
    Raises UsageError for a file or a profile that cannot be used.
    """
    path = config_path()
    settings = _chosen(_read(path), args.profile, path)
    if args.profile is None and os.environ.get("NVIDIA_BASE_URL"):
        settings.pop("base_url", None)
    model = settings.pop("model", None)
    if args.command in _ASK_NO_MODEL:
        model = None
    elif isinstance(model, dict):
        models = cast(dict[str, str], model)
        kind = _KIND_OF_BENCH[args.kind] if args.command == "bench" else _KIND_OF.get(args.command)
        if args.command == "demo" and args.embedding_model is None:
            args.embedding_model = models.get("embedding")
        model = models.get(kind) if kind else None
    if key_file := settings.get("api_key_file"):
        settings["api_key_file"] = os.path.expanduser(key_file)  # Path.expanduser raises without a home
    for name, value in {**settings, "model": model}.items():
        if value is not None and getattr(args, name) is None:
            setattr(args, name, value)


def _read(path: Path) -> Mapping[str, Any]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UsageError(f"{path} is no file")
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _chosen(config: Mapping[str, Any], profile: str | None, path: Path) -> dict[str, Any]:
    """The checked settings of a profile; without one those outside of any."""
    profiles = config.get("profiles", {})
    if not isinstance(profiles, dict):
        raise UsageError(f"{path}: profiles are tables, such as [profiles.gpu]")
    known = cast(dict[str, Any], profiles)
    for where, table in {
        "": {**config, "profiles": None},
        **{f"profiles.{name}": known[name] for name in known},
    }.items():
        _check(table, where, path)
    if profile is None:
        return {name: value for name, value in config.items() if name != "profiles"}
    if profile not in known:
        there = f"it has {', '.join(sorted(known))}" if known else f"add [profiles.{profile}], or leave out --profile"
        raise UsageError(f"there is no profile {profile!r} in {path}; {there}")
    return dict(known[profile])


def _check(table: object, where: str, path: Path) -> None:
    """UsageError for what is no setting, and for a key, which is not shown."""
    place = f"{path}: [{where}]" if where else str(path)
    if not isinstance(table, dict):
        raise UsageError(f"{place} is not a table")
    for name, value in cast(dict[str, Any], table).items():
        if name == "profiles" and not where:
            continue
        if "key" in name.lower() and name != "api_key_file":
            raise UsageError(
                f"{place} contains {name}: keys do not belong in this file; remove it (and get a new key if others could "
                "read it), then set NVIDIA_API_KEY or NVIDIA_NIM_API_KEY, or name a file with api_key_file"
            )
        if name not in _SETTINGS:
            raise UsageError(f"{place}: there is no setting {name}; there are {', '.join(_SETTINGS)}")
        if not _fits(name, value):
            shown = "that: it is a URL, or a list of them" if name == "base_url" else f"{value!r:.60}"  # or a password
            raise UsageError(f"{place}: {name} cannot be {shown}")


def _fits(name: str, value: object) -> bool:
    if name == "timeout":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    if name == "base_url" and isinstance(value, list):
        urls = cast(list[Any], value)
        return bool(urls) and all(isinstance(one, str) for one in urls)
    if name == "model" and isinstance(value, dict):
        models = cast(dict[str, Any], value)
        return all(kind in _KINDS and isinstance(one, str) for kind, one in models.items())
    return isinstance(value, str) and bool(value.strip())
