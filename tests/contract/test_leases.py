"""What every store does through which processes agree on who asks the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ai_cache_extproc.stores.base import Claim, LeaseKeeper
from tests.contract.conftest import Clock

OURS, THEIRS = b"our process", b"their process"
TTL_S = 60.0


async def test_the_first_to_claim_has_the_lease(keepers: Sequence[LeaseKeeper]) -> None:
    """Whoever comes second is told that another has it, and the first that it is theirs still."""
    ours, theirs = keepers
    assert Claim.TAKEN is await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    assert Claim.HELD is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    assert Claim.TAKEN is await ours.claim_lease("key", OURS, ttl_s=TTL_S)


async def test_leases_of_other_keys_are_others(keepers: Sequence[LeaseKeeper]) -> None:
    """Each name is a lease of its own."""
    ours, theirs = keepers
    assert Claim.TAKEN is await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    assert Claim.TAKEN is await theirs.claim_lease("other", THEIRS, ttl_s=TTL_S)


async def test_only_its_holder_gives_a_lease_back(keepers: Sequence[LeaseKeeper]) -> None:
    """A process whose lease expired does not take another's away."""
    ours, theirs = keepers
    await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    await theirs.release_lease("key", THEIRS)
    assert Claim.HELD is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    await ours.release_lease("key", OURS)
    assert Claim.TAKEN is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    await ours.release_lease("key", OURS)
    assert Claim.HELD is await ours.claim_lease("key", OURS, ttl_s=TTL_S)


async def test_giving_back_what_nobody_holds_is_no_fault(keepers: Sequence[LeaseKeeper]) -> None:
    """A lease may be gone by the time it is given back."""
    ours, theirs = keepers
    await ours.release_lease("key", OURS)
    assert Claim.TAKEN is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)


async def test_a_dead_holder_is_waited_for_no_longer_than_its_lease(
    keepers: Sequence[LeaseKeeper], clock: Clock
) -> None:
    """What is not given back is free again after its time."""
    ours, theirs = keepers
    await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    clock.elapse(TTL_S - 10)
    assert Claim.HELD is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    clock.elapse(10)
    assert Claim.TAKEN is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    assert Claim.HELD is await ours.claim_lease("key", OURS, ttl_s=TTL_S)


async def test_a_refused_key_is_told_to_everyone(keepers: Sequence[LeaseKeeper], clock: Clock) -> None:
    """While answers of a key are not kept nobody is told to wait, the one who found out included."""
    ours, theirs = keepers
    await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    await ours.refuse_lease("key", ttl_s=10)
    assert Claim.REFUSED is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    assert Claim.REFUSED is await ours.claim_lease("key", OURS, ttl_s=TTL_S)
    await ours.release_lease("key", OURS)
    assert Claim.REFUSED is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)
    clock.elapse(10)
    assert Claim.TAKEN is await theirs.claim_lease("key", THEIRS, ttl_s=TTL_S)


async def test_of_many_claimers_one_has_it(keepers: Sequence[LeaseKeeper]) -> None:
    """Twenty processes that claim in the same moment get one lease between them."""
    claims = await asyncio.gather(
        *(keepers[number % 2].claim_lease("key", b"holder %d" % number, ttl_s=TTL_S) for number in range(20))
    )
    assert (1, 19) == (claims.count(Claim.TAKEN), claims.count(Claim.HELD))


async def test_of_many_who_give_it_back_only_the_holder_does(keepers: Sequence[LeaseKeeper]) -> None:
    """Releases that run at the same time do not disturb each other, nor claims of other keys."""
    ours, theirs = keepers
    keys = [f"key{number}" for number in range(20)]
    await asyncio.gather(*(ours.claim_lease(key, OURS, ttl_s=TTL_S) for key in keys))
    await asyncio.gather(
        *(ours.release_lease(key, OURS if number % 2 else THEIRS) for number, key in enumerate(keys)),
        *(theirs.claim_lease(f"other{number}", THEIRS, ttl_s=TTL_S) for number in range(20)),
    )
    claims = [await theirs.claim_lease(key, THEIRS, ttl_s=TTL_S) for key in keys]
    assert [Claim.HELD, Claim.TAKEN] * 10 == claims
