-- What was found in a dataset's files: splits, sizes, labels. NULL where nobody has looked yet.
ALTER TABLE dataset ADD COLUMN contents jsonb;
