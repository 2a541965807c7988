-- What webhooks announced and nobody has acted on yet. A database of its own: see src/checkpoint/inbox.rs.

CREATE TABLE event (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival, never given twice: who acts on a row names it
    source      TEXT    NOT NULL,                  -- its name in the configuration
    key         TEXT    NOT NULL,                  -- the CRM's id
    kind        TEXT    NOT NULL CHECK (kind IN ('hint', 'whole', 'deleted')), -- a hint is fetched; the others are the CRM's only word
    deleted     INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)), -- of a hint: some event said that the record is deleted
    seq         INTEGER NOT NULL DEFAULT 1,        -- of a hint: events that it stands for; a fetch clears only those before it
    payload     BLOB,                              -- the record, sealed
    received_at INTEGER NOT NULL,                  -- the first of its events
    due_at      INTEGER NOT NULL,
    set_at      INTEGER NOT NULL,                  -- when due_at was reckoned: later than now, and the clock was set back since
    attempts    INTEGER NOT NULL DEFAULT 0,
    CHECK ((kind = 'whole') = (payload IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX event_hint ON event (source, key) WHERE kind = 'hint';
CREATE INDEX event_source ON event (source, id);

-- Deliveries with an id of their own: a repeated one is answered and has no effect.
CREATE TABLE delivery (
    source      TEXT    NOT NULL,
    hash        BLOB    NOT NULL,                  -- SHA-256 of its id
    received_at INTEGER NOT NULL,
    PRIMARY KEY (source, hash)
) STRICT, WITHOUT ROWID;
