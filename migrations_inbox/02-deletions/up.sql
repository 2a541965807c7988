-- A deletion has the age of the record that it speaks of.
ALTER TABLE event ADD COLUMN gone BLOB; -- of kind 'deleted': what the event holds of the record, sealed
