-- What the guard counts against, and what a record said of consent before it said no.

-- Contacts that the CRM has: those that are gone are not among them. Kept by the triggers below, so that a weighing need not
-- look at every contact.
ALTER TABLE source ADD COLUMN living INTEGER NOT NULL DEFAULT 0;

UPDATE source SET living = (SELECT count(*) FROM contact WHERE contact.source = source.id AND sightings < 2 AND stuck <> 4);

CREATE TRIGGER contact_comes AFTER INSERT ON contact WHEN NEW.sightings < 2 AND NEW.stuck <> 4 BEGIN
    UPDATE source SET living = living + 1 WHERE id = NEW.source;
END;

CREATE TRIGGER contact_turns AFTER UPDATE OF sightings, stuck, source ON contact
    WHEN (OLD.sightings < 2 AND OLD.stuck <> 4) <> (NEW.sightings < 2 AND NEW.stuck <> 4) OR OLD.source <> NEW.source
BEGIN
    UPDATE source SET living = living - 1 WHERE id = OLD.source AND OLD.sightings < 2 AND OLD.stuck <> 4;
    UPDATE source SET living = living + 1 WHERE id = NEW.source AND NEW.sightings < 2 AND NEW.stuck <> 4;
END;

CREATE TRIGGER contact_goes AFTER DELETE ON contact WHEN OLD.sightings < 2 AND OLD.stuck <> 4 BEGIN
    UPDATE source SET living = living - 1 WHERE id = OLD.source;
END;

-- The guard asks whether a read rejected anything.
CREATE INDEX rejection_read ON rejection (source, read_at) WHERE kind = 'record';

-- What the contact's record had said of the address before: 0 nothing that is known, 1 no, 2 yes.
ALTER TABLE consent ADD COLUMN said_before INTEGER NOT NULL DEFAULT 0 CHECK (said_before IN (0, 1, 2));
-- Records speak of consent in another way than when this was said: all is seen for the first time again.
ALTER TABLE consent ADD COLUMN is_forgotten INTEGER NOT NULL DEFAULT 0 CHECK (is_forgotten IN (0, 1));
ALTER TABLE deed ADD COLUMN said_before INTEGER NOT NULL DEFAULT 0 CHECK (said_before IN (0, 1, 2));
ALTER TABLE opt_out ADD COLUMN said_before INTEGER NOT NULL DEFAULT 0 CHECK (said_before IN (0, 1, 2));

-- What is asked for one contact or address at a time, where there may be very many.
CREATE INDEX deed_unjudged ON deed (source, kind) WHERE state = 'unjudged';
-- And in each round of sending: the oldest of each kind, however many there are.
CREATE INDEX deed_waiting ON deed (kind, id) WHERE state = 'due' AND import IS NULL;
CREATE INDEX deed_opt_out ON deed (address) WHERE kind = 'unsubscribe';
CREATE INDEX opt_out_address ON opt_out (address);
CREATE INDEX opt_out_done ON opt_out (done_at);

-- What was to be done about the end of a contact was taken back for another policy: the next sighting asks for that one.
ALTER TABLE contact ADD COLUMN ends_anew INTEGER NOT NULL DEFAULT 0 CHECK (ends_anew IN (0, 1));
