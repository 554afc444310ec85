"""How a server is asked for paths: settings that `lmsi sample` and `lmsi eval` share.

Knows no command. A struct cannot have two bases with fields, so each option and default stands here
once, and both commands' structs take it from here; ``serving`` makes one struct of them again:

    [sample]
    engine = "openai"
    base_url = "http://127.0.0.1:8000/v1"
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from lmsi_cli.config.options import Config, opt

EngineName = Literal["llama", "openai"]
LLAMA: EngineName = "llama"
EngineChoice = Annotated[
    EngineName, opt("What draws: llama.cpp here (llama), or an OpenAI-compatible server (openai).")
]
BaseUrl = Annotated[str, opt("openai: the server's address, with its /v1.")]
Concurrency = Annotated[int, opt("openai: requests under way at once.", ge=1, le=1024)]
PerRequest = Annotated[
    int, opt("openai: paths in one request; 1 gives each its own seed; 0: all, if it can.", ge=0)
]
Timeout = Annotated[float, opt("openai: seconds until a request is given up.", gt=0, le=86_400)]
Retries = Annotated[
    int, opt("openai: how often a failed request is tried again, after longer waits.", ge=0, le=100)
]
ApiKeyFile = Annotated[
    str, opt("openai: a file with the key, for your eyes only; none: LMSI_API_KEY.")
]


class ServerConfig(Config, frozen=True, kw_only=True):
    """How a server is reached and asked; nothing here changes what is asked of the model."""

    base_url: BaseUrl = ""
    concurrency: Concurrency = 8
    per_request: PerRequest = 0
    timeout: Timeout = 600.0
    retries: Retries = 8
    api_key_file: ApiKeyFile = ""


DEFAULT = ServerConfig()


def serving(settings: Config) -> ServerConfig:
    """The part of a command's settings that is about its server."""
    names = ServerConfig.__struct_fields__
    return msgspec.structs.replace(DEFAULT, **{name: getattr(settings, name) for name in names})
