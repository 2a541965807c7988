-- Files that Reteno fetches from us: which link an import gave it, and who has been in one.

ALTER TABLE import ADD COLUMN link BLOB;           -- SHA-256 of the token of its link; the token itself is only in the sealed body
ALTER TABLE import ADD COLUMN link_until INTEGER;  -- nothing is handed out after it

ALTER TABLE contact ADD COLUMN uploaded INTEGER NOT NULL DEFAULT 0 CHECK (uploaded IN (0, 1)); -- a file carried it: never another
