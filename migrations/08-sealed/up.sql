-- Values and bodies that wait stand sealed from here on, which earlier programs cannot read: they refuse this schema. The
-- first sender seals what is not; an earlier mark may have been set while an earlier program still wrote in clear.
DELETE FROM setting WHERE name = 'waiting values';

-- Contacts that go out by themselves: the daemon asks every few seconds whether there is one, among all that the guard holds.
CREATE INDEX contact_ready ON contact (id) WHERE acknowledged IS NOT NULL AND stuck = 0 AND held = 0 AND judged = 1;

-- It is called outage now.
DELETE FROM alert WHERE name = 'standstill';
