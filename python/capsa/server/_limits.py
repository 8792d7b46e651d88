"""How much one client may ask of the server."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: Largest body of a single decide or feedback: an input of 64 KiB and what stands around it.
BODY_BYTES: Final = 160 * KIB
#: Largest body of a batch.
BATCH_BYTES: Final = 8 * MIB
#: Largest spec or component.
INSTALL_BYTES: Final = 20 * MIB
#: Largest body of an invoke or a compensate: input and output of 1 MiB each, with room for how they are written.
CALL_BYTES: Final = 4 * MIB
#: Largest capability policy.
POLICY_BYTES: Final = 256 * KIB
#: Largest learning document or description of a job.
DOCUMENT_BYTES: Final = 64 * KIB
#: Longest request line, and longest header.
HEADER_BYTES: Final = 8 * KIB
#: Most headers of a request.
HEADERS: Final = 64
#: Nesting of a body; of what a capsule sees, less.
DEPTH: Final = 32
#: Seconds until the head of a request must have arrived, and then its body.
HEAD_S: Final = 10.0
BODY_S: Final = 30.0
#: Seconds that a client may leave an answer unread.
READ_S: Final = 30.0
#: Seconds that a connection may stay open between requests. Longer than the minute that proxies use.
IDLE_S: Final = 75.0
#: Connections that are open at once; further ones are told to come back.
CONNECTIONS: Final = 4096
#: Connections that wait to be accepted.
BACKLOG: Final = 4096
#: Calls that take their time (installs, policies, reports, pages, batches): at once, and waiting.
SLOW_AT_ONCE: Final = 4
SLOW_WAITING: Final = 64
#: Seconds that requests in flight have to end once the server was told to stop.
DRAIN_S: Final = 20.0
