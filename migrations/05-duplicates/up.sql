-- Several contacts with one e-mail or phone: which of them is sent is stored for each address, and decided anew only when a
-- contact comes to it or leaves it. From here on `channel` holds only contacts that the CRM still has.

ALTER TABLE source ADD COLUMN retired INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1)); -- not configured any more: its contacts count for nobody else
ALTER TABLE source ADD COLUMN full_began_at INTEGER; -- when the latest read from the beginning began
ALTER TABLE contact ADD COLUMN blocked_by INTEGER; -- print of the address with which another contact is sent in place of this one
ALTER TABLE contact ADD COLUMN older_read INTEGER; -- began then: a read that showed it with a lower change time than the one believed
ALTER TABLE contact ADD COLUMN doubt BLOB;         -- prints that a late copy of another call may overwrite: sent once more at doubt_until
ALTER TABLE contact ADD COLUMN doubt_until INTEGER;

CREATE INDEX contact_blocked ON contact (blocked_by, source) WHERE blocked_by IS NOT NULL;
CREATE INDEX contact_doubt ON contact (doubt_until) WHERE doubt_until IS NOT NULL;

CREATE TABLE duplicate (
    print   INTEGER PRIMARY KEY,                   -- of an address that several contacts have
    holder  INTEGER,                               -- the contact that is sent with it; NULL: none of them can be sent
    since   INTEGER NOT NULL,
    ignored INTEGER NOT NULL DEFAULT 0 CHECK (ignored IN (0, 1)) -- an operator has seen it and lets it be
) STRICT;

-- Addresses of contacts that we deleted in Reteno: whoever comes with one is restored.
CREATE TABLE removed (
    print   INTEGER PRIMARY KEY,
    removed_at INTEGER NOT NULL
) STRICT;

DELETE FROM channel WHERE contact IN (SELECT id FROM contact WHERE stuck = 4 OR sightings >= 2);
INSERT INTO duplicate (print, holder, since)
    SELECT h.print, min(iif(c.stuck IN (1, 3), NULL, c.id)), max(c.read_at)
    FROM channel h JOIN contact c ON c.id = h.contact GROUP BY h.print HAVING count(*) > 1;
UPDATE contact SET blocked_by = shared.print
    FROM (SELECT h.contact, min(h.print) AS print FROM channel h JOIN duplicate d ON d.print = h.print
          WHERE d.holder IS NOT NULL AND d.holder <> h.contact GROUP BY h.contact) AS shared
    WHERE contact.id = shared.contact AND contact.stuck = 3;
UPDATE contact SET stuck = iif(acknowledged IS NULL, 0, 2) WHERE stuck = 3 AND blocked_by IS NULL;
UPDATE contact SET blocked_by = NULL WHERE stuck <> 3;
DELETE FROM rejection WHERE kind = 'shared';
-- what could not be taken over for sure is decided anew when its record comes
UPDATE source SET full_read_wanted = 1
    WHERE rereads <> 2 AND id IN (SELECT source FROM contact WHERE stuck IN (2, 3));
