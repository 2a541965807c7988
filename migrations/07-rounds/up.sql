-- What each round of sending looks for among all that is to be done, however much of it waits for something else.

-- Raises whose hour has not begun.
CREATE INDEX deed_unstarted ON deed (kind) WHERE kind = 'resubscribe' AND state = 'due' AND expires_at IS NULL;
-- Erasures whose tombstone does not stand.
CREATE INDEX deed_unburied ON deed (kind) WHERE kind = 'erase' AND state = 'due' AND buried = 0;
