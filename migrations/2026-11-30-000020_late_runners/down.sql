DROP INDEX runners_late;
