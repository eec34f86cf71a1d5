"""The tables of the file. `docs/guides/sqlite.md` tells how a person reads them."""

APPLICATION_ID = 0x45464C54
"""In the file's header: the file is eventfleet's."""

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE file (incarnation TEXT NOT NULL) STRICT;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  domain TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  id TEXT NOT NULL,
  type TEXT NOT NULL,
  time TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  data TEXT NOT NULL,
  attributes TEXT,
  discarded INTEGER NOT NULL DEFAULT 0,
  partition INTEGER NOT NULL,
  epoch INTEGER,
  log_offset INTEGER,
  unplaced INTEGER,
  parked_epoch INTEGER,
  parked_offset INTEGER,
  reply_to TEXT,
  outbox TEXT,
  bus_incarnation TEXT,
  bus_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX event_versions ON events (domain, aggregate_id, version);
CREATE UNIQUE INDEX event_ids ON events (domain, aggregate_id, id);
CREATE INDEX event_positions ON events (domain, partition, epoch, log_offset, version)
  WHERE log_offset IS NOT NULL;
CREATE INDEX unplaced_events ON events (domain, unplaced, aggregate_id, version)
  WHERE unplaced IS NOT NULL;
CREATE INDEX parked_events ON events (domain, aggregate_id) WHERE parked_offset IS NOT NULL;
CREATE INDEX outbox_events ON events (domain, outbox, seq) WHERE outbox IS NOT NULL;
CREATE INDEX outbox_aggregates ON events (domain, outbox, aggregate_id, version)
  WHERE outbox IS NOT NULL;

CREATE TABLE bus_notes (
  domain TEXT NOT NULL,
  name TEXT NOT NULL,
  incarnation TEXT NOT NULL,
  groups TEXT NOT NULL,
  PRIMARY KEY (domain, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE collections (
  events TEXT PRIMARY KEY,
  collection TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
  collection TEXT NOT NULL,
  id TEXT NOT NULL,
  version INTEGER NOT NULL,
  fields TEXT,
  PRIMARY KEY (collection, id)
) STRICT, WITHOUT ROWID;
"""
