"""Which server owns which key: the layout that a Cluster tells, and how it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from ai_cache_extproc.clients.redis.address import Login, Server
from ai_cache_extproc.clients.redis.topology import ClusterSlots, Layout, OneServer, SentinelMaster, _layout
from ai_cache_extproc.errors import BackendUnavailable
from tests.support.redis_server import server_port
from tests.support.scripted_redis import Answer, scripted

SLOTS = 16_384
ASKED = Server("asked.test", 7000)
A, B, C = (Server(f"{name}.test", 6379) for name in "abc")
PATIENT_S = 10.0


def span(first: int, last: int, server: Server | None, *replicas: Server) -> list[object]:
    """One line of CLUSTER SLOTS; None stands for an owner that the server does not name."""

    def node(named: Server | None) -> list[object]:
        return [None, 7000, b"id", []] if named is None else [named.host.encode(), named.port, b"id", []]

    return [first, last, node(server), *(node(replica) for replica in replicas)]


def owners(layout: Layout, slots: Iterable[int]) -> list[Server | None]:
    """Who owns these slots."""
    return [layout.owner(key_in(slot)) for slot in slots]


@cache
def key_in(slot: int) -> bytes:
    """A key of this slot."""
    return next(key for number in count() if key_slot(key := b"%d" % number) == slot)


def test_one_server_owns_every_key() -> None:
    """No slot is worked out for it."""
    layout = Layout.of_one(A)
    assert (A, True, frozenset({A})) == (layout.owner(b"any"), layout.is_whole, layout.servers)


def test_slots_belong_to_the_first_server_of_their_line() -> None:
    """Lines come in any order; replicas own nothing."""
    layout = _layout([span(10_923, 16_383, C), span(0, 5460, A, B), span(5461, 10_922, B, A)], ASKED)
    assert [A, A, B, B, C, C] == owners(layout, (0, 5460, 5461, 10_922, 10_923, 16_383))
    assert (True, frozenset({A, B, C})) == (layout.is_whole, layout.servers)


def test_slots_that_nobody_owns_are_known_as_such() -> None:
    """Before, between and after the lines."""
    layout = _layout([span(5, 5, A), span(7, 10_000, B)], ASKED)
    assert [None, None, A, None, B, B, None, None] == owners(layout, (0, 4, 5, 6, 7, 10_000, 10_001, 16_383))
    assert (False, frozenset({A, B})) == (layout.is_whole, layout.servers)


def test_a_cluster_without_any_slot_has_no_owner() -> None:
    """As one that was just made."""
    layout = _layout([], ASKED)
    assert [None] == owners(layout, (1,))
    assert (False, frozenset()) == (layout.is_whole, layout.servers)


def test_an_owner_without_a_name_is_the_one_that_was_asked() -> None:
    """A node that does not know its own address says none, or an empty one."""
    layout = _layout([span(0, 9, None), span(10, 16_383, Server("", 7000))], ASKED)
    assert {ASKED} == layout.servers


def test_keys_with_a_tag_stay_together() -> None:
    """What stands in braces decides, as everywhere in a Cluster."""
    layout = _layout([span(slot, slot, Server("s", slot)) for slot in range(SLOTS)], ASKED)
    assert layout.owner(b"{tag}one") == layout.owner(b"{tag}two") == Server("s", key_slot(b"tag"))


@given(
    starts=st.sets(st.integers(1, SLOTS - 1), max_size=20).map(sorted),
    named=st.lists(st.sampled_from([A, B, C, None]), min_size=21, max_size=21),
    slots=st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=20),
)
def test_any_layout_is_read_as_it_is_told(
    starts: Sequence[int], named: Sequence[Server | None], slots: Sequence[int]
) -> None:
    """Whatever the lines and the gaps between them, each slot has the owner of its line."""
    lines = [
        (first, last - 1, server)
        for (first, last), server in zip(pairwise([0, *starts, SLOTS]), named, strict=False)
        if server is not None
    ]
    layout = _layout([span(*line) for line in reversed(lines)], ASKED)
    for slot in slots:
        expected = next((server for first, last, server in lines if first <= slot <= last), None)
        assert expected == layout.owners[max(at for at, start in enumerate(layout.starts) if start <= slot)]


async def test_a_single_server_is_never_looked_for() -> None:
    """It stays where it was configured."""
    topology = OneServer(A)
    assert (Layout.of_one(A), None) == (await topology.discover(()), topology.look_every_s)


def told(*spans: tuple[int, int, str, int]) -> bytes:
    """CLUSTER SLOTS as a server writes it: first, last, host and port of each line."""
    lines = b"".join(
        b"*3\r\n:%d\r\n:%d\r\n*2\r\n$%d\r\n%s\r\n:%d\r\n" % (first, last, len(host), host.encode(), port)
        for first, last, host, port in spans
    )
    return b"*%d\r\n%s" % (len(spans), lines)


def cluster_of(*ports: int) -> ClusterSlots:
    """A Cluster of which these are the seeds."""
    return ClusterSlots([Server("127.0.0.1", port) for port in ports], login=Login(), tls=None, timeout_s=PATIENT_S)


async def test_known_servers_are_asked_before_the_seeds() -> None:
    """The seeds may have left the Cluster long ago."""
    async with (
        scripted({b"CLUSTER": told((0, 16_383, "seed", 1))}) as seed,
        scripted({b"CLUSTER": told((0, 16_383, "known", 2))}) as known,
    ):
        topology = cluster_of(seed.port)
        assert {Server("seed", 1)} == (await topology.discover(())).servers
        assert {Server("known", 2)} == (await topology.discover([Server("127.0.0.1", known.port)])).servers
        assert [b"CLUSTER", b"SLOTS"] in known.asked


async def test_a_server_that_knows_all_slots_is_believed_rather() -> None:
    """One that was cut off, or is not there, does not decide while another knows more."""
    async with (
        scripted({b"CLUSTER": told((0, 5, "partial", 1))}) as partial,
        scripted({b"CLUSTER": told((0, 16_383, "whole", 2))}) as whole,
    ):
        nobody = server_port()
        assert {Server("whole", 2)} == (await cluster_of(nobody, partial.port, whole.port).discover(())).servers
        assert {Server("partial", 1)} == (await cluster_of(partial.port, nobody).discover(())).servers


ODD: dict[str, Answer] = {
    "no cluster": b"-ERR This instance has cluster support disabled\r\n",
    "a number": b":5\r\n",
    "words": b"+OK\r\n",
    "numbers in a list": b"*2\r\n:1\r\n:2\r\n",
    "no owner": b"*1\r\n*2\r\n:0\r\n:5\r\n",
    "owner without a port": b"*1\r\n*3\r\n:0\r\n:5\r\n*1\r\n$1\r\na\r\n",
    "a number for a host": b"*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n:1\r\n:2\r\n",
    "slots in words": b"*1\r\n*3\r\n$1\r\nx\r\n$1\r\ny\r\n*2\r\n$1\r\na\r\n:2\r\n",
    "rubbish": b"HTTP/1.1 400 Bad Request\r\n",
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_an_odd_answer_is_no_layout(answer: Answer) -> None:
    """Whatever a server says in the place of slots, the next one is asked, and without one nothing is known."""
    async with (
        scripted({b"CLUSTER": answer}) as odd,
        scripted({b"CLUSTER": told((0, 16_383, "good", 1))}) as good,
    ):
        assert {Server("good", 1)} == (await cluster_of(odd.port, good.port).discover(())).servers
        with pytest.raises(BackendUnavailable, match="redis discover: no server of the cluster answered"):
            await cluster_of(odd.port).discover(())


@pytest.mark.parametrize(
    "answer", [b":5\r\n", b"+OK\r\n", b"*1\r\n:1\r\n", b"*1\r\n*1\r\n$4\r\nname\r\n", b"-ERR unknown command\r\n"]
)
async def test_an_odd_answer_of_a_sentinel_is_no_master(answer: bytes) -> None:
    """As of a server that is no Sentinel at all."""
    async with scripted({b"SENTINEL": answer}) as odd:
        server = Server("127.0.0.1", odd.port)
        with pytest.raises(BackendUnavailable, match="redis discover: "):
            await SentinelMaster([server], "cache", login=Login(), tls=None, timeout_s=PATIENT_S).discover(())


@pytest.mark.parametrize("host", ["127.0.0.1", "a..b", "x" * 64 + ".test"], ids=["dead", "no name", "too long"])
async def test_servers_that_cannot_be_reached_are_no_layout(host: str) -> None:
    """An address that is dead or impossible ends in the same error, for a Cluster and for Sentinels."""
    server = Server(host, server_port())
    cluster = ClusterSlots([server], login=Login(), tls=None, timeout_s=PATIENT_S)
    sentinel = SentinelMaster([server], "cache", login=Login(), tls=None, timeout_s=PATIENT_S)
    for topology in (cluster, sentinel):
        with pytest.raises(BackendUnavailable, match="redis discover: "):
            await topology.discover(())
