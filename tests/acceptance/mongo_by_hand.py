"""In place of mongodump and mongorestore: copies the fleet's database with the driver."""

import argparse
import os
from pathlib import Path
from typing import Any

import pymongo
from bson import json_util
from pymongo.read_concern import ReadConcern

Database = pymongo.database.Database[dict[str, Any]]


def dump(database: Database, options: argparse.Namespace) -> None:
    """Copy one collection after another, in one transaction just if it is of one moment."""
    folder = options.out / database.name
    folder.mkdir(parents=True, exist_ok=True)
    names = [options.collection] if options.collection else database.list_collection_names()
    with database.client.start_session() as session:
        if options.oplog:
            session.start_transaction(read_concern=ReadConcern("snapshot"))
        for name in sorted({*names} - {options.excludeCollection}):
            found = database[name].find(session=session if options.oplog else None).sort("_id")
            (folder / f"{name}.json").write_text(json_util.dumps(list(found)))


def restore(database: Database, folder: Path) -> None:
    for file in (folder / database.name).iterdir():
        database[file.stem].drop()
        if documents := json_util.loads(file.read_text()):
            database[file.stem].insert_many(documents)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=["dump", "restore"])
    parser.add_argument("copy", nargs="?", type=Path)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--db")
    parser.add_argument("--collection")
    parser.add_argument("--excludeCollection")
    parser.add_argument("--out", type=Path)
    for flag in ("--oplog", "--drop", "--oplogReplay"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_intermixed_args()
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(options.uri)
    with client:
        database = client[os.environ["EVENTFLEET_MONGO_DATABASE"]]
        if options.tool == "dump":
            dump(database, options)
        else:
            restore(database, options.copy)


if __name__ == "__main__":
    main()
