-- Records that are fetched by themselves, and what polling or a reconcile had to repair.

ALTER TABLE source ADD COLUMN rereads INTEGER NOT NULL DEFAULT 0 CHECK (rereads IN (0, 1, 2)); -- 0: all of it; 1: a record by its id; 2: nothing, it only pushes
ALTER TABLE source ADD COLUMN covered_at INTEGER;  -- when the last read that came to its end began: what changed before is in it
ALTER TABLE source ADD COLUMN full_read_at INTEGER; -- when a read from the beginning last came to its end

-- Records that must be read once more. Sources that cannot fetch want a full read instead.
CREATE TABLE wanted (
    source  INTEGER NOT NULL REFERENCES source (id),
    key     TEXT    NOT NULL,                      -- the CRM's id
    deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)), -- the CRM said that it is deleted: a fetch confirms it
    asked   INTEGER NOT NULL DEFAULT 1,            -- grows: a fetch clears only what was wanted before it
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

-- What one way of reading found that an earlier one should have told.
CREATE TABLE repaired (
    source   INTEGER NOT NULL REFERENCES source (id),
    cause    TEXT    NOT NULL CHECK (cause IN ('webhook_lost', 'poll_missed', 'undated', 'deletion_unseen')),
    contacts INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (source, cause)
) STRICT, WITHOUT ROWID;
