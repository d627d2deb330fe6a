"""Redis lists, for messages that must not be lost.

Whatever takes a message takes it out of the list and into a hash in one step on the server, with the time beside it. What has been
there for too long belongs to a process that is gone, and goes back to the list.
"""

from __future__ import annotations

from contextlib import suppress
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import redis

from worker.queue.reliable_transport import ReliableChannel

#: Seconds without a word from the taker of a message after which somebody else gets it.
LEASE = 20

#: Messages given back in one go.
_MOST = 100

# KEYS: hash, times, lists. ARGV: tag.
_TAKE = """
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

# KEYS: hash, times, list. ARGV: seconds, at most, and the tags that are still being worked on.
_TEND = """
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
_GIVE_BACK = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
if raw then redis.call('RPUSH', KEYS[3], raw) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
"""


class Channel(ReliableChannel, redis.Channel):  # type: ignore[misc]
    """A text that any client pushes is as good as kombu's envelope."""

    def take(self, queue: str) -> tuple[str, bytes] | None:
        tag = f"{queue}/{uuid4()}"
        raw = self._run(_TAKE, [*_kept(queue), *(self._q_for_pri(queue, step) for step in self.priority_steps)], [tag])
        return None if raw is None else (tag, raw)

    def forget(self, tag: str) -> None:
        kept, times = _kept(_queue(tag))
        with self.conn_or_acquire() as client:
            client.pipeline().hdel(kept, tag).zrem(times, tag).execute()

    def give_back(self, tag: str) -> None:
        queue = _queue(tag)
        self._run(_GIVE_BACK, [*_kept(queue), queue], [tag])

    def tend(self, held: list[str]) -> None:
        for queue in self.active_queues:
            self._run(_TEND, [*_kept(queue), queue], [LEASE, _MOST, *held])

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> Any:
        with self.conn_or_acquire() as client:
            return client.eval(script, len(keys), *keys, *arguments)


def _kept(queue: str) -> tuple[str, str]:
    return f"{queue}.taken", f"{queue}.taken_at"


def _queue(tag: str) -> str:
    return tag.partition("/")[0]


class _Poller(redis.MultiChannelPoller):  # type: ignore[misc]
    """Asks now and then. kombu's waits in BRPOP, which takes a message before anybody could keep it."""

    def get(self, callback: Any, timeout: float | None = None) -> None:
        for channel in list(self._channels):
            with suppress(Empty):
                channel.drain_events(callback=callback)
                return
        raise Empty


class Transport(redis.Transport):  # type: ignore[misc]
    """Its channels keep what they take."""

    Channel = Channel

    #: Seconds between two looks at a list that was empty.
    polling_interval = 0.2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cycle = _Poller()
