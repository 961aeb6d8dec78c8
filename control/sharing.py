"""The options of replication as the Redis store takes them; passwords no option gives come from the environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from control.config import Config
from control.config.replication import RedisPlace
from control.replication.redis.link import Patience, Place
from control.replication.redis.store import RedisStore, Settings

__all__ = ["redis_settings", "store"]

DEFAULT_TIMEOUT = 1.0
"""Seconds a command may take where `redis-cmd-timeout` is rtpengine's default, 0."""
PREFIXES = "HAIRPIN", "RTPENGINE"
"""Of the variables that hold passwords, such as RTPENGINE_REDIS_AUTH_PW."""


def store(config: Config, environment: Mapping[str, str], standing: int = 0) -> RedisStore | None:
    """The store that the options name, None for none. It connects when it is started.

    Where calls were `standing` before this start they go on, with Redis or without: only a fresh relay requires it.
    """
    settings = redis_settings(config, environment)
    if settings is None:
        return None
    return RedisStore(dataclasses.replace(settings, required=settings.required and not standing))


def redis_settings(config: Config, environment: Mapping[str, str]) -> Settings | None:
    """Where calls are written and read, None where they are not shared."""
    writes, reads = config.writes, config.reads
    if writes is None or reads is None:
        return None
    purposes = {id(config.redis): "", id(config.redis_write): "WRITE_", id(config.redis_subscribe): "SUBSCRIBE_"}
    return Settings(
        writes=_place(writes, purposes[id(writes)], environment),
        reads=_place(reads, purposes[id(reads)], environment),
        keyspace=config.keyspace,
        partners=config.subscribe_keyspace,
        sentinels=tuple(
            Place(one.host, one.port, _password("SENTINEL_", environment)) for one in config.redis_sentinel
        ),
        sentinel_master=config.redis_sentinel_master,
        check_role=config.redis_write is None,
        required=not config.no_redis_required,
        patience=Patience(
            config.redis_connect_timeout / 1000,
            config.redis_cmd_timeout / 1000 or DEFAULT_TIMEOUT,
        ),
        allowed_errors=config.redis_allowed_errors,
        disable_time=config.redis_disable_time,
    )


def _place(place: RedisPlace, purpose: str, environment: Mapping[str, str]) -> Place:
    return Place(place.server.host, place.server.port, place.password or _password(purpose, environment))


def _password(purpose: str, environment: Mapping[str, str]) -> str:
    return next((found for one in PREFIXES if (found := environment.get(f"{one}_REDIS_{purpose}AUTH_PW"))), "")
