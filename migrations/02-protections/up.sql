-- What protects people: consent, deeds (calls that do not write fields), what the guard holds, tombstones.

-- E-mail and phone of each contact, as prints: to find those that share one.
CREATE TABLE channel (
    print   INTEGER NOT NULL,
    contact INTEGER NOT NULL,
    PRIMARY KEY (print, contact)
) STRICT, WITHOUT ROWID;

CREATE TABLE consent (
    contact INTEGER PRIMARY KEY,
    said    INTEGER NOT NULL CHECK (said IN (0, 1, 2)), -- what its record last said: 0 nothing, 1 no, 2 yes
    address INTEGER NOT NULL,                      -- print of the address that it said it of
    lowered_at INTEGER                             -- Reteno has been told of the no, at last then
) STRICT;

CREATE INDEX consent_no ON consent (address) WHERE said = 1;

-- Addresses that were told to get no mail, and whose contact does not say so of them any more (it has another address, its
-- record says nothing, all is seen anew): kept while a call about the contact may still put them back on the list.
CREATE TABLE told (
    contact  INTEGER NOT NULL,
    address  INTEGER NOT NULL,
    identity BLOB    NOT NULL,                     -- with that address, sealed
    PRIMARY KEY (contact, address)
) STRICT, WITHOUT ROWID;

-- Reads that asked for deeds: a person names them to take their opt-outs back.
CREATE TABLE cycle (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL REFERENCES source (id),
    began  INTEGER NOT NULL,
    UNIQUE (source, began)
) STRICT;

CREATE TABLE deed (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: calls under way name it
    source     INTEGER NOT NULL REFERENCES source (id),
    contact    INTEGER NOT NULL,
    key        TEXT    NOT NULL,                   -- the CRM's id: the row may be gone before the deed is
    kind       TEXT    NOT NULL CHECK (kind IN ('unsubscribe', 'resubscribe', 'detach', 'delete', 'erase', 'learn')),
    cause      TEXT    NOT NULL CHECK (cause IN ('witnessed', 'sight', 'gone', 'again')),
    address    INTEGER NOT NULL DEFAULT 0,         -- print of the address that it is about
    segment    INTEGER NOT NULL DEFAULT 0,         -- Reteno's id of the segment; 1 for an opt-out that stands in told
    identity   BLOB,                               -- external id, e-mail and phone that it needs, sealed
    reteno_id  INTEGER,
    state      TEXT    NOT NULL CHECK (state IN ('unjudged', 'held', 'due')),
    hold       INTEGER,
    import     INTEGER,                            -- the call that does it
    cycle      INTEGER NOT NULL REFERENCES cycle (id), -- the read that asked for it
    not_before INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER,                            -- a raise is dropped then
    attempts   INTEGER NOT NULL DEFAULT 0,
    renew      INTEGER NOT NULL DEFAULT 0 CHECK (renew IN (0, 1)), -- something that ended meanwhile may undo it: once more
    buried     INTEGER NOT NULL DEFAULT 0 CHECK (buried IN (0, 1)), -- an erasure: its tombstone stands
    CHECK ((state = 'held') = (hold IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX deed_once ON deed (contact, kind, address, segment);
CREATE INDEX deed_hold ON deed (hold) WHERE hold IS NOT NULL;
CREATE INDEX deed_due ON deed (not_before) WHERE state = 'due' AND import IS NULL;

-- Opt-outs that were carried out: what `consent undo` may take back.
CREATE TABLE opt_out (
    contact  INTEGER NOT NULL,
    address  INTEGER NOT NULL,
    cycle    INTEGER NOT NULL REFERENCES cycle (id),
    done_at  INTEGER NOT NULL,
    PRIMARY KEY (cycle, contact, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE hold (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: a person approves by it
    source     INTEGER NOT NULL REFERENCES source (id),
    verb       TEXT    NOT NULL,
    field      INTEGER NOT NULL DEFAULT 0,         -- code of the field that one value would be written over; else 0
    print      INTEGER NOT NULL DEFAULT 0,         -- that value
    reason     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    grown      INTEGER NOT NULL DEFAULT 0 CHECK (grown IN (0, 1)), -- more came to its list since it was told
    seen       INTEGER NOT NULL DEFAULT 0 CHECK (seen IN (0, 1)) -- a person has looked at its list: it grows no more
) STRICT;

CREATE TABLE held (
    hold    INTEGER NOT NULL REFERENCES hold (id),
    contact INTEGER NOT NULL,
    field   INTEGER NOT NULL,                      -- code of the field; 0: the contact as a whole
    print   INTEGER NOT NULL,                      -- what the field is wanted to be
    PRIMARY KEY (contact, field, hold)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_hold ON held (hold);

-- What the guard let pass, by the hour, for a day.
CREATE TABLE passed (
    source   INTEGER NOT NULL,
    verb     TEXT    NOT NULL,
    field    INTEGER NOT NULL,
    print    INTEGER NOT NULL,
    hour     INTEGER NOT NULL,                     -- hours since 1970
    contacts INTEGER NOT NULL,
    PRIMARY KEY (source, verb, field, print, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstone (
    hash      INTEGER PRIMARY KEY,                 -- keyed hash of the CRM's id, or print of external id, e-mail or phone
    grave     INTEGER NOT NULL,                    -- which of them belong together: keyed hash of source and CRM id
    erased_at INTEGER NOT NULL
) STRICT;

CREATE INDEX tombstone_grave ON tombstone (grave);
