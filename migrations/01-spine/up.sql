-- The spine: contacts and what Reteno is known to hold of them, imports under way, rejections, tokens.
-- Times are milliseconds since 1970 UTC. Prints are keyed hashes of (Reteno's field, canonical value): 12 bytes each.
-- Personal data stands only in waiting.vals (while it waits) and import.body (until Reteno has named the import).

CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE source (
    id               INTEGER PRIMARY KEY,
    name             TEXT    NOT NULL UNIQUE,
    cursor           TEXT,                         -- opaque, the source's own words; NULL: from the beginning
    full_read_wanted INTEGER NOT NULL DEFAULT 0 CHECK (full_read_wanted IN (0, 1, 2)), -- 1: read all once; 2: being read
    mapping          INTEGER,                      -- hash of the mapping its records were last read with
    mapping_is_new   INTEGER NOT NULL DEFAULT 0 CHECK (mapping_is_new IN (0, 1)), -- no full read with it has ended yet
    restored         INTEGER NOT NULL DEFAULT 0 CHECK (restored IN (0, 1)), -- what is known of it comes from an older copy
    consent_mapping  INTEGER,                      -- hash of how its records speak of consent
    first_load_done  INTEGER NOT NULL DEFAULT 0 CHECK (first_load_done IN (0, 1)),
    last_started_at  INTEGER,
    last_ended_at    INTEGER,
    last_error       TEXT                          -- NULL: the last cycle read to its end
) STRICT;

CREATE TABLE contact (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: what is under way names it; order of arrival: it decides the cost of every look-up
    source       INTEGER NOT NULL REFERENCES source (id),
    key          TEXT    NOT NULL,                 -- the CRM's id
    reteno_id    INTEGER,                          -- once Reteno told it
    desired      BLOB    NOT NULL,                 -- prints of what the CRM wants
    acknowledged BLOB,                             -- prints of what Reteno holds, a missing field is unknown; NULL: as desired
    changed_at   INTEGER,                          -- the CRM's change time of the record last believed
    read_at      INTEGER NOT NULL,                 -- when the read that brought it was asked for
    sightings    INTEGER NOT NULL DEFAULT 0,       -- full reads in a row that lacked it
    dropped      INTEGER NOT NULL DEFAULT 0,       -- hash of the list of fields left out as invalid; 0: none
    lane         INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 4),
    by_full_read INTEGER NOT NULL DEFAULT 0 CHECK (by_full_read IN (0, 1)), -- a first load or a reconcile brought what is due
    attempts     INTEGER NOT NULL DEFAULT 0,
    not_before   INTEGER NOT NULL DEFAULT 0,
    import       INTEGER,                          -- the unfinished import that carries it
    split        INTEGER,                          -- the part of a halved batch it is sent with
    stuck        INTEGER NOT NULL DEFAULT 0 CHECK (stuck BETWEEN 0 AND 4), -- 1: rejected until it changes; 2: values must be read again; 3: another contact has its channel; 4: gone, and its ending is done
    judged       INTEGER NOT NULL DEFAULT 1 CHECK (judged IN (0, 1)), -- 0: what changed has not been weighed by the guard
    held         INTEGER NOT NULL DEFAULT 0,       -- entries in held: it may not be sent as it is
    weighed      BLOB,                             -- prints of due fields that the guard has weighed, so that it counts them once; NULL: nothing
    restores     INTEGER NOT NULL DEFAULT 0 CHECK (restores IN (0, 1)), -- we deleted it in Reteno: it comes back when it is sent
    told         INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)), -- a call may have told Reteno of it
    fired        INTEGER NOT NULL DEFAULT 0 CHECK (fired IN (0, 1)), -- a call that starts a workflow was begun for it
    identity     BLOB,                             -- external id, e-mail and phone, sealed: only where a deed may need them
    email_status TEXT,                             -- what Reteno said when it was subscribed by a form
    -- only what differs waits, and what is in an import differs
    CHECK (acknowledged IS NOT NULL OR (import IS NULL AND stuck NOT IN (2, 4)))
) STRICT;

CREATE UNIQUE INDEX contact_key ON contact (source, key);
CREATE INDEX contact_due ON contact (lane, split DESC, id)
    WHERE acknowledged IS NOT NULL AND import IS NULL AND stuck = 0 AND judged = 1;
CREATE INDEX contact_unjudged ON contact (source) WHERE judged = 0;
CREATE INDEX contact_reteno ON contact (reteno_id) WHERE reteno_id IS NOT NULL;
CREATE INDEX contact_open ON contact (stuck, source) WHERE acknowledged IS NOT NULL;

CREATE TABLE waiting (
    contact INTEGER PRIMARY KEY REFERENCES contact (id),
    vals    BLOB NOT NULL                          -- desired values, only while they wait to be acknowledged
) STRICT;

CREATE TABLE import (
    id             INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: alerts and logs name it
    state          TEXT    NOT NULL CHECK (state IN ('intent', 'submitted', 'ghost')),
    call           TEXT    NOT NULL CHECK (call IN ('bulk', 'upsert', 'update', 'categories', 'subscribe', 'upload', 'learn',
                                                    'unsubscribe', 'resubscribe', 'detach', 'delete', 'erase')),
    target         INTEGER,                        -- Reteno's id of the contact or segment that the path of the call names
    mask           BLOB    NOT NULL,               -- codes of the fields it writes
    fires          INTEGER NOT NULL DEFAULT 0 CHECK (fires IN (0, 1)), -- it may start workflows: never repeated by itself
    renames        INTEGER NOT NULL DEFAULT 0 CHECK (renames IN (0, 1)), -- contacts are found by Reteno's id
    body           BLOB,                           -- exact bytes; dropped when Reteno has named the import
    session        TEXT,                           -- asyncSessionId
    contacts       INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    posts          INTEGER NOT NULL DEFAULT 0,     -- how often the body may have reached Reteno
    posted_at      INTEGER NOT NULL,               -- when the body last went out, written before it does
    repeat_at      INTEGER,                        -- an uncertain intent is posted again then
    check_at       INTEGER,                        -- a submitted import is asked for then
    checks         INTEGER NOT NULL DEFAULT 0,
    missing_since  INTEGER,                        -- Reteno answers 404 since
    unmatched      INTEGER NOT NULL DEFAULT 0,     -- failures that named no contact we could tell
    ghost_until    INTEGER,                        -- a copy that nobody watches may be applied until then
    CHECK ((call IN ('update', 'categories', 'detach', 'delete', 'erase')) = (target IS NOT NULL)),
    CHECK ((state = 'intent') = (body IS NOT NULL)),
    CHECK (state <> 'submitted' OR session IS NOT NULL),
    CHECK (state <> 'ghost' OR ghost_until IS NOT NULL)
) STRICT;

CREATE TABLE member (
    import  INTEGER NOT NULL REFERENCES import (id),
    contact INTEGER NOT NULL,
    carried BLOB    NOT NULL,                      -- prints it carries
    prior   BLOB    NOT NULL,                      -- what was acknowledged before, for a certain refusal
    locks   BLOB    NOT NULL,                      -- keyed hashes of external id, Reteno id, e-mail, phone: 9 bytes each
    failure TEXT,                                  -- Reteno named it in failedContacts
    is_new  INTEGER NOT NULL DEFAULT 0 CHECK (is_new IN (0, 1)), -- no call had told Reteno of it before
    deed    INTEGER,                               -- the deed that the call does, where it writes no fields
    PRIMARY KEY (import, contact)
) STRICT, WITHOUT ROWID;

CREATE TABLE rejection (
    id      INTEGER PRIMARY KEY,
    source  INTEGER NOT NULL REFERENCES source (id),
    key     TEXT,                                  -- the CRM's id, where it is known
    place   TEXT,                                  -- line or message, where no id is known
    kind    TEXT    NOT NULL CHECK (kind IN ('record', 'field', 'reteno', 'skipped', 'shared', 'erased', 'doubtful', 'consent')),
    field   TEXT,
    reason  TEXT    NOT NULL,                      -- never a value
    seen_at INTEGER NOT NULL,
    read_at INTEGER NOT NULL,                      -- the read that saw it last: a full read forgets what it did not see
    ignored INTEGER NOT NULL DEFAULT 0 CHECK (ignored IN (0, 1)), -- an operator has seen it and lets it be
    CHECK (key IS NOT NULL OR place IS NOT NULL)
) STRICT;

CREATE INDEX rejection_key ON rejection (source, key);
CREATE UNIQUE INDEX rejection_once ON rejection (source, coalesce(key, ''), coalesce(place, ''), kind, coalesce(field, ''));

CREATE TABLE authorization (
    id         INTEGER PRIMARY KEY CHECK (id = 1), -- one at a time
    source     TEXT    NOT NULL,                   -- '' is Reteno
    state_hash BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    new_account INTEGER NOT NULL DEFAULT 0,        -- another account than the first is allowed
    outcome    TEXT                                -- NULL: waits for the callback
) STRICT;

CREATE TABLE alert (
    name     TEXT PRIMARY KEY,                     -- one alert a cause: it is raised once and stays until it ends
    text     TEXT    NOT NULL,
    hint     TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
