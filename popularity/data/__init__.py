"""From a file of songs to a clean song table: named data sets, formats, columns, duplicates, splits."""
