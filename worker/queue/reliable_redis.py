"""A transport for Redis that keeps a message until it is acknowledged.

One Lua script on the server moves a message from the list to a hash and records the time. A message whose claim was not renewed for
`LEASE` belongs to a dead process and is moved back to the list.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import redis

from worker.queue.reliable_transport import ReliableChannel

#: A claim that is not renewed for this long expires, and another consumer receives the message.
LEASE = 20  # seconds

MAX_REQUEUED = 100  # messages in one step, so that the server is not blocked

# KEYS: hash, times, lists. ARGV: tag.
_CLAIM = """
for i = 3, #KEYS do
  local raw = redis.call('RPOP', KEYS[i])
  if raw then
    redis.call('HSET', KEYS[1], ARGV[1], raw)
    redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
    return raw
  end
end
return false
"""

# KEYS: hash, times, list. ARGV: lease in seconds, MAX_REQUEUED, and the tags whose claims are renewed.
_MAINTAIN = """
local now = tonumber(redis.call('TIME')[1])
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[2], 'XX', now, ARGV[i])
end
for _, tag in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
  local raw = redis.call('HGET', KEYS[1], tag)
  if raw then redis.call('RPUSH', KEYS[3], raw) end
  redis.call('HDEL', KEYS[1], tag)
  redis.call('ZREM', KEYS[2], tag)
end
"""

# KEYS: hash, times, list. ARGV: tag.
_REQUEUE = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if raw then redis.call('RPUSH', KEYS[3], raw) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
"""


class Channel(ReliableChannel, redis.Channel):  # type: ignore[misc]  # kombu has no types
    """Also reads plain texts that other clients push, without kombu's envelope."""

    def claim(self, queue: str) -> tuple[str, bytes] | None:
        tag = f"{queue}/{uuid4()}"
        lists = [self._q_for_pri(queue, priority) for priority in self.priority_steps]
        raw = self._run(_CLAIM, [*_claim_keys(queue), *lists], [tag])
        return None if raw is None else (tag, raw)

    def delete_claimed(self, tag: str) -> None:
        claims, times = _claim_keys(_queue_name(tag))
        with self.conn_or_acquire() as client:
            client.pipeline().hdel(claims, tag).zrem(times, tag).execute()

    def requeue_claimed(self, tag: str) -> None:
        queue = _queue_name(tag)
        self._run(_REQUEUE, [*_claim_keys(queue), queue], [tag])

    def maintain_claims(self, tags: list[str]) -> None:
        for queue in self.active_queues:
            self._run(_MAINTAIN, [*_claim_keys(queue), queue], [LEASE, MAX_REQUEUED, *tags])

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        with self.conn_or_acquire() as client:
            return client.eval(script, len(keys), *keys, *arguments)


def _claim_keys(queue: str) -> tuple[str, str]:
    """Return the names of the hash of claimed messages and of the sorted set of their times."""
    return f"{queue}.taken", f"{queue}.taken_at"


def _queue_name(tag: str) -> str:
    return tag.partition("/")[0]


class _Poller(redis.MultiChannelPoller):  # type: ignore[misc]  # kombu has no types
    """Polls the lists. kombu's own poller waits in BRPOP, which removes a message before it could be kept."""

    def get(self, callback: Any, timeout: float | None = None) -> None:
        for channel in list(self._channels):
            with suppress(Empty):
                channel.drain_events(callback=callback)
                return
        raise Empty


class Transport(redis.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's Redis transport with reliable channels."""

    Channel = Channel

    #: After all lists were empty.
    polling_interval = 0.2  # seconds

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle = _Poller()
