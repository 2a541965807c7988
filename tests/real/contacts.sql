-- 20,000 invented contacts of a CRM, the same at every run. Who has no e-mail has a phone.
CREATE TABLE contact (
  id         bigint PRIMARY KEY,
  first_name text,
  last_name  text,
  email      text,
  phone      varchar(32),
  city       text,
  lang       varchar(8),
  tier       text,
  orders     integer,
  born       date,
  updated_at timestamptz NOT NULL
);

WITH words AS (
  SELECT
    -- Three apostrophes are in use: the typewriter's, the typographic one and the letter.
    ARRAY['Олена', 'Дар''я', 'Мар’яна', 'Іван', 'Андрій', 'Anna', 'Юлія', 'Jean-Luc', 'Ярослав', 'Zoë', 'Вікторія', 'В''ячеслав'] AS first,
    ARRAY['Шевченко', 'Дем’янчук', 'Лук''яненко', 'Стельмах', 'Кравчук', 'O''Connor', 'Ґалаґан', 'Нечуй-Левицький', 'Прокопʼюк', 'Müller', 'Їжакевич', 'Smith', 'Коваль'] AS last,
    ARRAY['Київ', 'Львів', 'Кам’янець-Подільський', 'Одеса', 'Kharkiv', 'Сєвєродонецьк', 'Біла Церква'] AS city
)
INSERT INTO contact
SELECT
  g,
  CASE WHEN g % 13 = 0 THEN NULL ELSE first[1 + g % 12] END,
  CASE WHEN g % 17 = 0 THEN NULL ELSE last[1 + g % 13] END,
  CASE
    WHEN g % 11 = 0 AND g % 7 <> 0 THEN NULL
    WHEN g % 4 = 0 THEN 'Client.' || g || '@Example.COM'
    ELSE 'client' || g || '@example.com'
  END,
  CASE
    WHEN g % 7 = 0 THEN NULL
    WHEN g % 3 = 0 THEN '067 ' || substr(lpad(g::text, 7, '0'), 1, 3) || ' ' || substr(lpad(g::text, 7, '0'), 4, 2) || ' ' || substr(lpad(g::text, 7, '0'), 6, 2)
    WHEN g % 5 = 0 THEN '+38 (067) ' || substr(lpad(g::text, 7, '0'), 1, 3) || '-' || substr(lpad(g::text, 7, '0'), 4, 4)
    ELSE '+38067' || lpad(g::text, 7, '0')
  END,
  CASE WHEN g % 5 = 0 THEN NULL ELSE city[1 + g % 7] END,
  CASE g % 9 WHEN 0 THEN NULL WHEN 1 THEN 'en' WHEN 2 THEN 'en-US' ELSE 'uk' END,
  CASE g % 6 WHEN 0 THEN NULL WHEN 1 THEN 'gold' ELSE 'silver, since ' || (2000 + g % 25) END,
  CASE WHEN g % 10 = 0 THEN NULL ELSE g % 300 END,
  CASE WHEN g % 8 = 0 THEN NULL ELSE date '1950-01-01' + (g % 20000)::integer END,
  -- Three rows share each moment, as after a bulk edit in a CRM.
  timestamptz '2025-01-05 08:00:00.250+02' + (g / 3) * interval '111 seconds'
FROM generate_series(1, 20000) AS g, words;
