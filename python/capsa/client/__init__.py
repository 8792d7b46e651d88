"""A Capsa server from Python: the same methods, answers and exceptions as in process."""

from capsa.client._answers import RemoteDecision, RemoteStrategy, RemoteSuggestion
from capsa.client._async import AsyncClient, AsyncRemoteJob, AsyncRemoteTenant
from capsa.client._capsule import AsyncRemoteCapsule
from capsa.client._errors import Unauthorized, Unreachable
from capsa.client._queue import QueueCounts
from capsa.client._sync import Client, RemoteJob, RemoteTenant
from capsa.client._sync_capsule import RemoteCapsule

__all__ = [
    "AsyncClient",
    "AsyncRemoteCapsule",
    "AsyncRemoteJob",
    "AsyncRemoteTenant",
    "Client",
    "QueueCounts",
    "RemoteCapsule",
    "RemoteDecision",
    "RemoteJob",
    "RemoteStrategy",
    "RemoteSuggestion",
    "RemoteTenant",
    "Unauthorized",
    "Unreachable",
]
