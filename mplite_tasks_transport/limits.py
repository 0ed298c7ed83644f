"""Every limit of the broker and its protocol, each with its unit and its reason.

A limit that a client can meet has a reply code beside it (see :mod:`mplite_tasks_transport.errors`).
"""

from __future__ import annotations

from typing import Final

#: Bytes of one frame, without its length prefix. A message must fit in one; 64 MiB is four times what
#: RabbitMQ accepts by default, and small enough that one client cannot take the broker's memory with one frame.
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024

#: Bytes of a frame that carries no payload. Lists and mappings of small values take eight times their bytes in memory,
#: so that 64 MiB of them would be half a GiB.
MAX_SMALL_FRAME_BYTES: Final = 1024 * 1024

#: Bytes of a message's payload, or of a result. The frame that delivers it has more fields than the one that brought
#: it: names of at most 255 bytes each, and numbers.
MAX_PAYLOAD_BYTES: Final = MAX_FRAME_BYTES - 64 * 1024

#: Microseconds of a delay, a due time or a time to live: 73,000 years. Sums of them fit the journal's 64-bit integers.
MAX_MICROSECONDS: Final = 2**61

#: Levels of lists and mappings in each other in the arguments of a queue, exchange, binding or consumer.
MAX_ARGUMENT_DEPTH: Final = 16

#: Characters of the text of an error: some quote what was asked for.
MAX_ERROR_CHARS: Final = 1000

#: Bytes of one handshake frame. The longest legal HELLO has five short fields; unauthenticated peers get no more.
MAX_HANDSHAKE_BYTES: Final = 2048

#: Bytes (UTF-8) of the name of a queue, exchange, routing key, vhost, consumer or lock: AMQP's short string.
MAX_NAME_BYTES: Final = 255

#: Characters of a message id. A UUID has 36; AMQP's short string is the upper bound.
MAX_ID_CHARS: Final = 255

#: A priority is a signed 32-bit integer. Higher runs first.
MIN_PRIORITY: Final = -(2**31)
MAX_PRIORITY: Final = 2**31 - 1

#: Channels on one connection: AMQP's default of 2,047.
MAX_CHANNELS: Final = 2047

#: Deliveries that a consumer reported as started before it died, after which a message counts as poison.
DEFAULT_MAX_DELIVERIES: Final = 5

#: Seconds within which a handshake must be complete (RabbitMQ gives 10): a silent stranger holds a slot no longer.
HANDSHAKE_SECONDS: Final = 5.0

#: Connections in all. Each costs a descriptor and about 30 KiB (with TLS about 100).
MAX_CONNECTIONS: Final = 10_000

#: Connections from one IPv4 address, or IPv6 network of 64 bits: a large machine has hundreds of consumers, and a
#: network behind one address more.
MAX_CONNECTIONS_PER_ADDRESS: Final = 2_000

#: TCP connections that may be in the handshake at a time, together. For one more, the oldest of the address that has
#: most is closed: a handshake takes some milliseconds, so that only silent ones are met.
MAX_UNAUTHENTICATED: Final = 256

#: Connections that the system keeps for the broker until it accepts them. A burst of clients is as large, and whoever
#: finds the queue full tries again after a second only.
LISTEN_BACKLOG: Final = 1024

#: Connections that are accepted before those that were are heard: a burst of more than ``MAX_UNAUTHENTICATED`` would
#: push out who has had no chance to speak.
ACCEPTS_PER_TURN: Final = 32

#: Bytes of one read of a TLS connection, which each one has reserved (the library's default is 256 KiB, which makes a
#: stranger expensive). Two TLS records.
TLS_READ_BYTES: Final = 32 * 1024

#: Seconds that a client is given to answer the end of TLS before its socket is closed all the same.
TLS_CLOSE_SECONDS: Final = 1.0

#: Seconds without accepting when there is no descriptor left, unless one is given back before.
ACCEPT_PAUSE_SECONDS: Final = 0.5

#: Vhosts, queues and exchanges of a vhost, and bindings of an exchange: every one costs up to some KiB, for as long as
#: it is there.
MAX_VHOSTS: Final = 1_000
MAX_QUEUES: Final = 10_000
MAX_EXCHANGES: Final = 10_000
MAX_BINDINGS: Final = 10_000

#: Consumers on one connection, over all its channels: a consumer of many queues is one for each of them.
MAX_CONSUMERS: Final = 10_000

#: Bytes waiting to be sent to one client, above which it gets no deliveries until it has read them.
OUTPUT_HIGH_BYTES: Final = 4 * 1024 * 1024

#: Bytes of publishes that one connection may have parked at the memory watermark before the broker stops reading it.
PARKED_BYTES_PER_CONNECTION: Final = 1024 * 1024

#: Turns whose commit may be outstanding (a journal that waits for the disk), and bytes of requests that may wait
#: meanwhile before nothing more is read: they share the next commit, and a stalled disk does not fill the memory.
MAX_TURNS_IN_FLIGHT: Final = 4
INBOX_HIGH_BYTES: Final = 16 * 1024 * 1024

#: Share of the machine's (or the control group's) memory that waiting message bodies may take.
MEMORY_WATERMARK_RATIO: Final = 0.4

#: Blocked publishers go on when the bytes held have fallen to this share of the watermark.
MEMORY_RESUME_RATIO: Final = 0.9

#: Seconds and number of recently settled message ids that are remembered, so that a publish in doubt that is sent
#: again is kept once. A client's resend comes within its reconnection time, which is seconds.
DEDUPLICATION_SECONDS: Final = 120.0
DEDUPLICATION_IDS: Final = 100_000

#: Seconds a result is kept when its writer does not say: Celery's default of one day.
DEFAULT_RESULT_SECONDS: Final = 86_400.0

#: Seconds without a connection after which a local broker that was started on demand ends by itself.
LOCAL_IDLE_SECONDS: Final = 600.0

#: Seconds to wait for a local broker that was just started: imports and the replay of a large journal.
LOCAL_START_SECONDS: Final = 30.0

#: Bytes of the path of a unix socket. The kernel's limit is 108 with the closing zero byte; other systems have 104.
MAX_SOCKET_PATH_BYTES: Final = 100

#: Seconds that a restarted broker keeps the started deliveries of a consumer that came over TCP, whose process it
#: cannot watch, for that consumer to come back. On a unix socket they are kept for as long as the process lives.
RESUME_SECONDS: Final = 30.0

#: Seconds that a queue's lock may be held before it is taken back, when its holder does not say, and at most: it is
#: for taking one message out, and while somebody has it nobody else gets one.
LOCK_LEASE_SECONDS: Final = 30.0
MAX_LOCK_LEASE_SECONDS: Final = 3600.0

#: Items of a queue's dicts in one answer; more are asked for in parts, so that a large queue does not stop the loop.
MAX_VIEW_ITEMS: Final = 1000
