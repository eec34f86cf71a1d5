"""The tables of the file. `docs/guides/one-process.md` tells how a person reads them."""

APPLICATION_ID = 0x45464C54
"""In the file's header: the file is eventfleet's."""

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE file (
  incarnation TEXT NOT NULL,
  inode TEXT,
  checks INTEGER NOT NULL DEFAULT 0
) STRICT;

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

CREATE TABLE parked (
  domain TEXT NOT NULL,
  role TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  partition INTEGER NOT NULL,
  first INTEGER NOT NULL,
  reason TEXT NOT NULL,
  parked TEXT NOT NULL,
  requested_first INTEGER,
  requested TEXT,
  PRIMARY KEY (domain, role, aggregate_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requested_redrives ON parked (domain, role, partition, aggregate_id)
  WHERE requested IS NOT NULL;

CREATE TABLE discarded (
  domain TEXT NOT NULL,
  role TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  discarded TEXT NOT NULL,
  PRIMARY KEY (domain, role, aggregate_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE view_builds (
  domain TEXT NOT NULL,
  view TEXT NOT NULL,
  builds TEXT,
  repaired INTEGER,
  PRIMARY KEY (domain, view)
) STRICT, WITHOUT ROWID;

CREATE TABLE view_tables (
  id INTEGER PRIMARY KEY,
  domain TEXT NOT NULL,
  view TEXT NOT NULL,
  build INTEGER,
  name TEXT NOT NULL,
  indexes TEXT NOT NULL,
  UNIQUE (domain, view, build, name)
) STRICT;

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

CREATE TABLE registry (
  domain TEXT NOT NULL,
  fact TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (domain, fact)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
  domain TEXT NOT NULL,
  aggregate_id TEXT NOT NULL,
  state_version INTEGER NOT NULL,
  fingerprint TEXT NOT NULL,
  version INTEGER NOT NULL,
  taken_at TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (domain, aggregate_id, state_version, fingerprint, version)
) STRICT;

CREATE TABLE log_topics (
  name TEXT PRIMARY KEY,
  id TEXT NOT NULL,
  partitions INTEGER NOT NULL,
  replication INTEGER NOT NULL,
  config TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE log_partitions (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  oldest INTEGER NOT NULL DEFAULT 0,
  end_offset INTEGER NOT NULL DEFAULT 0,
  compacted_to INTEGER NOT NULL DEFAULT 0,
  UNIQUE (topic, partition)
) STRICT;

CREATE TABLE log_records (
  seq INTEGER PRIMARY KEY,
  partition_id INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  timestamp INTEGER NOT NULL,
  key ANY,
  value ANY,
  headers TEXT,
  to_compact INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX log_offsets ON log_records (partition_id, offset);
CREATE INDEX log_keys ON log_records (partition_id, key, offset) WHERE to_compact;
CREATE INDEX log_tombstones ON log_records (partition_id, offset)
  WHERE to_compact AND value IS NULL;

CREATE TABLE log_groups (
  topic TEXT NOT NULL,
  name TEXT NOT NULL,
  partition INTEGER NOT NULL,
  next_offset INTEGER,
  generation INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (topic, name, partition)
) STRICT, WITHOUT ROWID;

CREATE VIEW log AS
SELECT topic, partition, offset,
  strftime('%Y-%m-%d %H:%M:%f', timestamp / 1000.0, 'unixepoch') AS time, key, value, headers
FROM log_partitions JOIN log_records ON partition_id = id;
"""
