"""Whether code written for one schema still works on the next: expand first, contract later."""

from sqlalchemy import Column, Connection, MetaData, Table


def schema_of(connection: Connection) -> MetaData:
    """Reflect the tables of a database."""
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def incompatibilities(before: MetaData, after: MetaData) -> list[str]:
    """Return what the code of the schema before would stumble over in the schema after."""
    found = []
    for name, old in before.tables.items():
        new = after.tables.get(name)
        found += [f"table {name} is gone"] if new is None else _of_table(old, new)
    return found


def _of_table(old: Table, new: Table) -> list[str]:
    found = []
    for column in old.columns:
        kept = new.columns.get(column.name)
        if kept is None:
            found.append(f"{old.name}.{column.name} is gone")
        elif str(kept.type) != str(column.type):
            found.append(f"{old.name}.{column.name} is {kept.type}, was {column.type}")
        elif column.nullable and not kept.nullable:
            found.append(f"{old.name}.{column.name} must be given now")
    added = [column for column in new.columns if column.name not in old.columns]
    return found + [
        f"{new.name}.{column.name} is new and must be given"
        for column in added
        if _must_be_given(column)
    ]


def _must_be_given(column: Column[object]) -> bool:
    return not column.nullable and column.server_default is None and column.identity is None
