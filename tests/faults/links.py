"""Network links between processes that a test can take down: both ways, one way, or in silence."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.faults.system import Disturbed
from tests.proxy import Proxy


class Link(Proxy):
    """A proxy whose directions can be silenced one by one, and whose LISTEN connections can be a black hole."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._holes: set[int] = set()
        self.deaf = False
        """Nothing comes from the server any more."""
        self.mute = False
        """Nothing goes to the server any more."""
        self.swallow_listen = False
        """Whoever says LISTEN from now on hears nothing after it."""
        super().__init__(target)

    def _pass(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.watch(data, from_server):
                    break
                if self.swallow_listen and not from_server and b"LISTEN" in data:
                    sink.sendall(data)
                    self._holes.add(id(sink))
                    continue
                holed = id(source) in self._holes
                if not (holed or self._silent.is_set() or (self.deaf if from_server else self.mute)):
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def down(self) -> None:
        """Cut what there is, refuse what comes."""
        self.refusing = True
        self.cut()

    def up(self) -> None:
        """As if nothing had been."""
        self.refusing = self.deaf = self.mute = self.swallow_listen = False
        self.swallow(False)
        # What was swallowed is missing: no connection goes on as it was.
        self.cut()


@dataclass(frozen=True)
class KafkaLinks:
    """Links of their own to the broker, each on a listener of its own, for two kinds of process."""

    relay: Link
    follower: Link


@contextmanager
def kafka_links(system: Disturbed, relay: str, follower: str) -> Iterator[KafkaLinks]:
    """Let one relay and one follower reach the broker through links, and only through them."""
    from services.local_processes import free_port

    kafka, broker = system.full.kafka, system.full.process("kafka")
    broker.keep_down()
    ports = [free_port(kafka.port)]
    ports.append(free_port(kafka.port, *ports))
    with Link(("127.0.0.1", ports[0])) as to_relay, Link(("127.0.0.1", ports[1])) as to_follower:
        own = dict(kafka._settings)
        inner = f"PLAINTEXT://127.0.0.1:{kafka.port},RELAY://127.0.0.1:{ports[0]},FOLLOWER://127.0.0.1:{ports[1]}"
        outer = (
            f"PLAINTEXT://127.0.0.1:{kafka.port},RELAY://127.0.0.1:{to_relay.port},"
            f"FOLLOWER://127.0.0.1:{to_follower.port}"
        )
        kafka._controller = kafka._controller or free_port(kafka.port, *ports)
        kafka._settings = {
            **own,
            "listeners": f"{inner},CONTROLLER://127.0.0.1:{kafka._controller}",
            "advertised.listeners": outer,
            "listener.security.protocol.map": ",".join(
                f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "RELAY", "FOLLOWER", "CONTROLLER")
            ),
            "inter.broker.listener.name": "PLAINTEXT",
        }
        broker.bring_up()
        system.reroute(relay, {"MARU_KAFKA": f"127.0.0.1:{to_relay.port}"})
        system.reroute(follower, {"MARU_KAFKA": f"127.0.0.1:{to_follower.port}"})
        try:
            yield KafkaLinks(to_relay, to_follower)
        finally:
            for link in (to_relay, to_follower):
                link.up()
            for name in (relay, follower):
                system.reroute(name, None)
            kafka._settings = own
