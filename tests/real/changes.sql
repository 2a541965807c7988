-- A day's work in that CRM: 200 rows changed in one field each, some of them emptied, and 20 added. `WHERE` finds rows
-- that have the field, so that every change is one.
CREATE FUNCTION pg_temp.pick(wanted text, after bigint, number integer) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format('SELECT id FROM contact WHERE id > %s AND %s ORDER BY id LIMIT %s', after, wanted, number);
END $$;

UPDATE contact SET city = 'Івано-Франківськ', updated_at = '2025-03-01 10:00+02'
  WHERE id IN (SELECT pg_temp.pick('city IS NOT NULL', 1000, 60));
UPDATE contact SET email = 'moved' || id || '@example.org', updated_at = '2025-03-01 11:00+02'
  WHERE id IN (SELECT pg_temp.pick('email IS NOT NULL', 4000, 40));
UPDATE contact SET phone = '+38050' || lpad(id::text, 7, '0'), updated_at = '2025-03-01 12:00+02'
  WHERE id IN (SELECT pg_temp.pick('phone IS NOT NULL', 7000, 30));
UPDATE contact SET first_name = 'Соломі’я', updated_at = '2025-03-01 13:00+02'
  WHERE id IN (SELECT pg_temp.pick('first_name IS NOT NULL', 9000, 20));
UPDATE contact SET orders = orders + 1000, updated_at = '2025-03-01 14:00+02'
  WHERE id IN (SELECT pg_temp.pick('orders IS NOT NULL', 12000, 20));
UPDATE contact SET city = NULL, updated_at = '2025-03-01 15:00+02'
  WHERE id IN (SELECT pg_temp.pick('city IS NOT NULL', 15000, 20));
UPDATE contact SET phone = NULL, updated_at = '2025-03-01 16:00+02'
  WHERE id IN (SELECT pg_temp.pick('phone IS NOT NULL AND email IS NOT NULL', 18000, 10));

INSERT INTO contact
SELECT g, 'Нова', 'Людина', 'added' || g || '@example.com', '+38063' || lpad(g::text, 7, '0'), 'Суми', 'uk', NULL, 1, NULL,
  timestamptz '2025-03-02 09:00+02' + g * interval '1 millisecond'
FROM generate_series(20001, 20020) AS g;
