"""What many sites fetch at once is read once; little is remembered."""

import asyncio

import pytest

from deploy.flower.recent import Recent


class Database:
    def __init__(self, *missing: str) -> None:
        self.read_names: list[str] = []
        self._missing = missing

    async def read(self, name: str) -> bytes | None:
        self.read_names.append(name)
        await asyncio.sleep(0.01)
        if name == "broken":
            raise OSError("no disk")
        return None if name in self._missing else name.encode() * 4


def test_those_who_come_at_once_or_soon_after_share_one_read() -> None:
    async def use() -> None:
        database, recent = Database(), Recent()
        found = await asyncio.gather(*(recent.get("a", database.read) for _ in range(9)))
        assert found == [b"aaaa"] * 9
        assert await recent.get("a", database.read) == b"aaaa"
        assert database.read_names == ["a"]

    asyncio.run(use())


def test_no_more_is_remembered_than_may_be_and_what_was_used_last_stays() -> None:
    async def use() -> None:
        database, recent = Database(), Recent(most=10)
        for name in ("a", "b", "a", "c", "a", "b", "long"):
            assert await recent.get(name, database.read) == name.encode() * 4
            assert sum(map(len, recent._contents.values())) == recent._bytes <= 10
        assert database.read_names == ["a", "b", "c", "b", "long"]

    asyncio.run(use())


def test_what_is_not_there_or_cannot_be_read_is_asked_for_again() -> None:
    async def use() -> None:
        database, recent = Database("gone"), Recent()
        for _ in range(2):
            assert await recent.get("gone", database.read) is None
            with pytest.raises(OSError, match="no disk"):
                await recent.get("broken", database.read)
        assert database.read_names == ["gone", "broken"] * 2

    asyncio.run(use())


def test_who_leaves_does_not_stop_the_read_of_the_others() -> None:
    async def use() -> None:
        database, recent = Database(), Recent()
        first = asyncio.ensure_future(recent.get("a", database.read))
        second = asyncio.ensure_future(recent.get("a", database.read))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"aaaa" and database.read_names == ["a"]

    asyncio.run(use())
