"""The objects of many messages at once, directly in Flower's tables.

A message of Flower is a tree of objects, and Flower stores, links and deletes each by itself, in
eight statements or more; a round of 200 sites has thousands of them. Here all that come with one
request are stored, or deleted, in a dozen statements. What the tables say then is what Flower would
have had them say; the tests compare the two.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from fastapi import HTTPException
from flwr.proto.message_pb2 import ObjectTree  # pylint: disable=E0611
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_object_id,
    is_valid_sha256_hash,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.state.schema.objectstore_models import ObjectChild, RunObject, StoredObject
from flwr.supercore.utils import uint64_to_int64
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as insert_or_leave

from deploy.flower.kept import LONGEST, Reference

LARGE = 2**16  # bytes of an object from where it stays in the file in which it came
BATCH = 2**25  # bytes of objects that are stored in one transaction: it keeps all others waiting

# The tables themselves: what Flower's classes add costs as much again with each statement.
_OBJECTS, _LINKS, _BELONGS = (
    cast(Any, model.__table__) for model in (StoredObject, ObjectChild, RunObject)
)
TREE = text("""
    WITH RECURSIVE tree(id) AS (
        SELECT :root UNION
        SELECT c.child_id FROM object_children c JOIN tree t ON c.parent_id = t.id
    )
    SELECT o.object_id, o.is_available, length(o.content), c.child_id,
        CASE WHEN length(o.content) <= :longest THEN o.content END
    FROM tree t JOIN objects o ON o.object_id = t.id
    LEFT JOIN object_children c ON c.parent_id = t.id
""")


class Contents(Protocol):
    """Objects that have come with a request."""

    def sizes(self) -> Mapping[str, int]:
        """id -> bytes."""

    def content(self, object_id: str) -> bytes:
        """One of them, read each time."""

    def leave(self, object_id: str) -> None:
        """One that has been looked at may stay where it is."""

    def reference(self, object_id: str) -> bytes | None:
        """What is to be stored in the place of one that stays where it is."""


class Trees:
    """Stands where Flower's handlers ask the object store for a message's tree. `sizes` has, of all
    trees that were asked for, id -> bytes of the objects that are there."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.sizes: dict[str, int] = {}

    def get_object_tree(self, object_id: str) -> ObjectTree:
        """The tree; `NoObjectInStoreError` where the store has no such object."""
        with self._state.session() as session:
            rows = session.execute(TREE, {"root": object_id, "longest": LONGEST}).all()
        children: dict[str, list[str]] = {}
        for name, there, size, child, content in rows:
            children.setdefault(name, [])
            if child is not None:
                children[name].append(child)
            if there:
                place = content and Reference.decode(content)
                self.sizes[name] = place.length if place else size
        return _tree(object_id, children)


def _tree(name: str, children: Mapping[str, Sequence[str]]) -> ObjectTree:
    if name not in children:
        raise NoObjectInStoreError(f"Object {name} was not pre-registered.")
    return ObjectTree(object_id=name, children=[_tree(child, children) for child in children[name]])


def children_of(trees: Iterable[ObjectTree]) -> dict[str, list[str]]:
    """id -> ids of its children, of all objects of trees; refused where two trees differ, or one
    says what no tree can be."""
    children: dict[str, list[str]] = {}
    for tree in trees:
        for node in iterate_object_tree(tree):
            below = [child.object_id for child in node.children]
            if not is_valid_sha256_hash(node.object_id) or len(set(below)) < len(below):
                raise HTTPException(400, "a tree that is none")
            if set(children.setdefault(node.object_id, below)) != set(below):
                raise HTTPException(400, "two trees that do not fit")
    return children


def leave_large(contents: Contents) -> None:
    """Look at large objects, without the database, and have them stay where they are."""
    for name, size in contents.sizes().items():
        if size >= LARGE:
            _checked(name, contents)
            contents.leave(name)


def store_early(
    children: Mapping[str, Sequence[str]], contents: Contents, run_id: int, state: Any
) -> None:
    """Store objects without children, in transactions of `BATCH` bytes, until no more than that is
    left for the one that stores the message itself."""
    sizes = {n: size for n, size in contents.sizes().items() if contents.reference(n) is None}
    left = sum(sizes.values())
    leaves = [name for name in sizes if not children.get(name, [""])]
    while left > BATCH and leaves:
        stored = 0
        with state.session() as session:
            while leaves and stored < BATCH:
                name = leaves.pop()
                content = _checked(name, contents)
                _insert(session, [_row(name, content)], run_id)
                stored += len(content)
        left -= stored


def store(
    session: Any, children: Mapping[str, Sequence[str]], contents: Contents, run_id: int
) -> int:
    """Store and link the objects of trees, in the transaction of their messages; the bytes that
    were stored. Refused where one is neither here nor in `contents`, or is not what it is called.
    """
    if not children:
        return 0
    known = dict(
        session.execute(
            select(_OBJECTS.c.object_id, _OBJECTS.c.is_available).where(
                _OBJECTS.c.object_id.in_(children)
            )
        ).all()
    )
    _compare(session, children, known)
    new = [name for name in children if name not in known]
    links = [(parent, child) for parent in new for child in children[parent]]
    parents = Counter(child for _, child in links)
    rows = [_row(name, _stored(name, contents), parents[name]) for name in new]
    _insert(session, rows, run_id)
    _link(session, links, {child: n for child, n in parents.items() if child in known})
    _belong(session, [name for name in children if name in known], run_id)
    total = sum(contents.sizes()[name] for name in new)
    for name, there in known.items():
        if not there:
            content = _stored(name, contents)
            session.execute(
                update(_OBJECTS)
                .where(_OBJECTS.c.object_id == name)
                .values(content=content, is_available=1)
            )
            total += contents.sizes()[name]
    return total


def _row(name: str, content: bytes, parents: int = 0) -> dict[str, Any]:
    return {"object_id": name, "content": content, "is_available": 1, "ref_count": parents}


def _stored(name: str, contents: Contents) -> bytes:
    """What the table is to have of an object."""
    return contents.reference(name) or _checked(name, contents)


def _checked(name: str, contents: Contents) -> bytes:
    if name not in contents.sizes():
        raise HTTPException(400, "an object is missing")
    content = contents.content(name)
    if get_object_id(content) != name:
        raise HTTPException(400, "an object that is not the one of its id")
    try:
        validate_object_content(content)
    except (UnexpectedObjectContentError, UnicodeDecodeError):
        raise HTTPException(400, "an object that is none of Flower's") from None
    return content


def _compare(session: Any, children: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
    """An object that is here already has the children that it is said to have."""
    links = select(_LINKS.c.parent_id, _LINKS.c.child_id).where(_LINKS.c.parent_id.in_(known))
    there = defaultdict(set)
    for parent, child in session.execute(links).all() if known else ():
        there[parent].add(child)
    if any(there[name] != set(children[name]) for name in known):
        raise HTTPException(400, "a tree that does not fit what is here")


def _insert(session: Any, rows: Sequence[dict[str, Any]], run_id: int) -> None:
    if rows:
        # One that an unfinished push has left stays as it is.
        new = insert_or_leave(_OBJECTS).on_conflict_do_nothing()
        session.execute(new, rows)
    _belong(session, [row["object_id"] for row in rows], run_id)


def _belong(session: Any, names: Sequence[str], run_id: int) -> None:
    """Note that a run has these objects, with which they go."""
    rows = [{"run_id": uint64_to_int64(run_id), "object_id": name} for name in names]
    if rows:
        session.execute(insert_or_leave(_BELONGS).on_conflict_do_nothing(), rows)


def _link(session: Any, links: Sequence[tuple[str, str]], more: Mapping[str, int]) -> None:
    """Link parents and children; `more` says how many parents more have children that are here
    already."""
    rows = [{"parent_id": parent, "child_id": child} for parent, child in links]
    if rows:
        session.execute(insert(_LINKS), rows)
    by_number = defaultdict(list)
    for child, number in more.items():
        by_number[number].append(child)
    for number, names in by_number.items():
        session.execute(
            update(_OBJECTS)
            .where(_OBJECTS.c.object_id.in_(names))
            .values(ref_count=_OBJECTS.c.ref_count + number)
        )


def delete_trees(session: Any, roots: Collection[str]) -> None:
    """Delete objects that no other refers to, and whatever only they refer to; as
    `SqlObjectStore.delete` of flwr does for one."""
    # An update, so that this transaction has the database to itself from here on.
    orphans = (
        update(_OBJECTS)
        .where(_OBJECTS.c.object_id.in_(roots), _OBJECTS.c.ref_count == 0)
        .values(ref_count=0)
        .returning(_OBJECTS.c.object_id)
    )
    doomed = set(session.scalars(orphans)) if roots else set()
    while doomed:
        links = (
            select(_LINKS.c.child_id, func.count())
            .where(_LINKS.c.parent_id.in_(doomed))
            .group_by(_LINKS.c.child_id)
        )
        lost = dict(session.execute(links).all())
        session.execute(delete(_OBJECTS).where(_OBJECTS.c.object_id.in_(doomed)))
        doomed = _release(session, lost)


def _release(session: Any, lost: Mapping[str, int]) -> set[str]:
    """Note that so many objects less refer to these; those to which none does any more. They are
    about to be deleted: to write their counts would be to write their contents anew."""
    counts = select(_OBJECTS.c.object_id, _OBJECTS.c.ref_count).where(
        _OBJECTS.c.object_id.in_(lost)
    )
    free = set()
    for name, count in session.execute(counts).all() if lost else ():
        if count <= lost[name]:
            free.add(name)
            continue
        # One by one: SQLite keeps what a statement overwrites until it is over.
        one = update(_OBJECTS).where(_OBJECTS.c.object_id == name)
        session.execute(one.values(ref_count=count - lost[name]))
    return free
