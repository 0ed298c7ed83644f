"""Frames that are almost right: recorded valid ones, mutated, against the handshake, the decoder and the core.

Everything is in this process, as the broker puts it together: bytes go through the frame reader of a connection, the
handshake or the decoder, and then to a core with another, honest session in it. Nothing may be raised but what the
broker answers with or closes the connection for, and the honest session must not notice.
"""

from __future__ import annotations

import random
import struct
import sys
import time
from collections.abc import Iterator

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.core import Core
from mplite_tasks_transport.broker.session import Session
from mplite_tasks_transport.errors import HandshakeRefused, ProtocolError, VersionMismatch
from mplite_tasks_transport.handshake import BrokerHandshake, ClientHandshake
from mplite_tasks_transport.limits import MAX_HANDSHAKE_BYTES
from mplite_tasks_transport.protocol import FrameReader, decode_request, encode_push, encode_request

__all__ = ["KEY", "AfterTheHandshake", "BeforeTheHandshake", "mutated"]

KEY = b"a-key-that-the-stranger-does-not-have"

#: Frames between two looks at whether the honest client is served.
CHECKED_EVERY = 500

_RESULT = frames.ResultRecord("id", "SUCCESS", b"value")

REQUESTS: tuple[frames.Request, ...] = (
    frames.OpenChannel(1, 1),
    frames.CloseChannel(1, 1),
    frames.DeclareExchange(1, "e", "topic", False, True, False, {"x": [1, {"y": 2}]}),
    frames.DeleteExchange(1, "e"),
    frames.DeclareQueue(1, "q", False, True, False, False, {"x-dead-letter-exchange": "e", "x-max-length": 5}),
    frames.DeclareQueue(1, "", exclusive=True),
    frames.DeleteQueue(1, "q"),
    frames.BindQueue(1, "q", "e", "a.*.#", {}),
    frames.UnbindQueue(1, "q", "e", "a.*.#", {}),
    frames.PurgeQueue(1, "q"),
    frames.Publish(1, "", "q", "id", 5, b"\x92\xc4\x01x\x80", 0, 0, 1000, True, True),
    frames.Publish(1, "e", "a.b", "id2", -5, b"\x92\xc4\x01x\x80", 50, 0, 0, False, False, True),
    frames.Consume(1, 1, "tag", "q", False, False, {"x-starts-on-delivery": True}),
    frames.CancelConsumer(1, 1, "tag"),
    frames.Qos(1, 1, 10),
    frames.Credit(1, 1, 1),
    frames.Ack(1, 1, 1, True, True),
    frames.Reject(1, 1, 1, True, False, True),
    frames.Recover(1, 1),
    frames.Get(1, 1, "q"),
    frames.Started(1, 1, 1),
    frames.Settle(1, 1, 1, _RESULT, [frames.Publish(0, "", "q", "next", 1, b"\x92\xc4\x01x\x80")]),
    frames.StoreResult(1, _RESULT),
    frames.WaitResult(1, "id"),
    frames.GetResult(1, "id"),
    frames.ForgetResults(1, ["id", "id2"]),
    frames.StopWaiting(1, 1),
    frames.CancelMessage(1, "q", "id"),
    frames.Reprioritise(1, "q", "id", 9),
    frames.Position(1, "q", "id"),
    frames.AcquireLock(1, "lock"),
    frames.ReleaseLock(1, "lock"),
    frames.Status(1),
    frames.Ping(1),
    frames.Identify(1, "me"),
    frames.ViewCount(1, "q"),
    frames.ViewList(1, "q", frames.Half.INDEX, (1, 2, "id"), 10),
    frames.ViewGet(1, "q", frames.Half.QUEUE, "id"),
    frames.ViewSet(1, "q", frames.Half.INDEX, "id", 3),
    frames.ViewSet(1, "q", frames.Half.QUEUE, "id", 0, b"\x92\xc4\x01x\x80"),
    frames.ViewPop(1, "q", frames.Half.INDEX, "id"),
    frames.ViewClear(1, "q"),
    frames.AcquireQueueLock(1, "q", 0, 1000),
    frames.ReleaseQueueLock(1, "q"),
    frames.WaitDrained(1, "q"),
)

_EDGES = (0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xC6, 0xC9, 0xCF, 0xD3, 0xDC, 0xDD, 0xDF, 0xE0, 0xFF)


def mutated(valid: bytes, dice: random.Random) -> bytes:
    """Return bytes that were a valid body: changed, cut, doubled or mixed in one to four places, or not at all."""
    data = bytearray(valid)
    for _ in range(dice.choice((0, 0, 1, 1, 1, 2, 4))):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if data:
                data[at % len(data)] = dice.choice(_EDGES)
            case 1 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 2:
                del data[at : at + dice.randrange(1, 9)]
            case 3:
                data[at:at] = dice.randbytes(dice.randrange(1, 9))
            case 4:
                data[at:at] = data[at : at + dice.randrange(1, 33)]
            case _:
                data[at : at + 9] = b"\xcf" + struct.pack(">Q", dice.choice((0, 2**31, 2**63, 2**64 - 1)))
    return bytes(data)


def _chunks(data: bytes, dice: random.Random) -> Iterator[bytes]:
    while data:
        size = dice.choice((1, 7, len(data), len(data)))
        yield data[:size]
        data = data[size:]


def _framed(body: bytes, dice: random.Random) -> bytes:
    size = len(body) if dice.random() < 0.98 else dice.choice((0, len(body) + 1, 2**32 - 1))
    return struct.pack(">I", size) + body


class BeforeTheHandshake:
    """Strangers with mutated handshakes, who have seen honest ones and may say their frames again."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.frames = 0

    def run(self, number: int) -> None:
        """Send this many frames. Raises AssertionError when one gets in."""
        while self.frames < number:
            self._connection()

    def _connection(self) -> None:
        dice = self._dice
        overheard = ClientHandshake(vhost="/", user="ann", key=KEY, binding=b"b" * 32)
        hello = overheard.hello()[4:]
        elsewhere = BrokerHandshake(pid=1, key=KEY, binding=b"b" * 32)
        challenge = elsewhere.receive(hello)[4:]
        answer = overheard.receive(challenge)
        assert isinstance(answer, bytes)
        proof = answer[4:]
        reader = FrameReader(MAX_HANDSHAKE_BYTES)
        broker = BrokerHandshake(pid=1, keys_of=lambda peer: (KEY,) if peer.user == "ann" else (), binding=b"b" * 32)
        try:
            for kind in (hello, dice.choice((hello, proof, challenge)), proof):
                self.frames += 1
                for chunk in _chunks(_framed(mutated(kind, dice), dice), dice):
                    for body in reader.feed(chunk):
                        broker.receive(body)
        except (ProtocolError, HandshakeRefused, VersionMismatch):
            pass
        assert not broker.done, "a stranger got in"


class AfterTheHandshake:
    """A client that has the key and sends mutated requests, beside an honest one."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._bodies = [encode_request(each)[4:] for each in REQUESTS]
        self.frames = 0
        self.refused = self.accepted = self.closed = 0
        self.core = Core()
        self.honest = self.core.open_session("/honest")
        self._ask_honestly(frames.DeclareQueue(1, "mine"))
        self._ask_honestly(frames.OpenChannel(1, 1))
        self.session = self._new_session()

    def run(self, number: int) -> None:
        """Send this many frames. Raises whatever the broker would have to answer for."""
        reader = FrameReader()
        for _ in range(number):
            self.frames += 1
            try:
                for chunk in _chunks(
                    _framed(mutated(self._dice.choice(self._bodies), self._dice), self._dice), self._dice
                ):
                    for body in reader.feed(chunk):
                        self.core.apply(self.session, decode_request(body))
                        self.accepted += 1
            except ProtocolError:
                self.closed += 1
                if self._dice.random() < 0.05:
                    self.core.close_session(self.session)
                    self.session = self._new_session()
            reader.take_rest()  # after a wrong length, what follows would only be swallowed
            self._finish_turn()
            if self.frames % CHECKED_EVERY == 0:
                self._serve_honestly()

    def _new_session(self) -> Session:
        session = self.core.open_session("/")
        for frame in (frames.OpenChannel(1, 1), frames.DeclareQueue(1, "q")):
            self.core.apply(session, frame)
        return session

    def _finish_turn(self) -> None:
        self.core.finish_turn()
        self.core.take_records()
        for session in self.core.take_talking():
            out, session.out = session.out, []
            for frame in out:
                encode_push(frame)
                if session is self.session and isinstance(frame, frames.Failed):
                    self.refused += 1
            self.core.resume_output(session)

    def _ask_honestly(self, frame: frames.Request) -> object:
        self.core.apply(self.honest, frame)
        self.core.finish_turn()
        self.core.take_records()
        answers, self.honest.out = self.honest.out, []
        for answer in answers:
            if isinstance(answer, frames.Ok) and answer.r:
                return answer.value
        raise AssertionError(f"{frame} was answered by {answers}")

    def _serve_honestly(self) -> None:
        id = f"m{self.frames}"
        assert self._ask_honestly(frames.Publish(1, "", "mine", id, 1, b"x")) is True
        got = self._ask_honestly(frames.Get(1, 1, "mine", True))
        assert isinstance(got, list)
        assert id in got


def main() -> None:
    """Fuzz for as many seconds as the first argument says, from the seed that the second says or that is picked."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}, {seconds:g} seconds", flush=True)
    before, after = BeforeTheHandshake(seed), AfterTheHandshake(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before.run(before.frames + 1000)
        after.run(1000)
    print(f"{before.frames} frames before and {after.frames} after the handshake: nothing got through")


if __name__ == "__main__":
    main()
