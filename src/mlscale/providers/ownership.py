"""Whose a resource in a cloud is, by the mark that every deployment puts on its own."""

from __future__ import annotations

from mlscale.errors import NotOurs


def refuse_others(kind: str, resource: str, name: str, owner: str | None) -> None:
    """Return if `resource`, which is marked as the deployment `owner`'s, belongs to the deployment `name`.

    Raises:
        NotOurs: it doesn't.
    """
    if owner == name:
        return
    whose = f"it belongs to the deployment {owner}" if owner else "it has none of our marks"
    raise NotOurs(
        f"this {kind} is not ours",
        why=f"{resource}: {whose}",
        hint="mlscale import, or choose another name" if kind == "endpoint" and not owner else "choose another name",
    )
