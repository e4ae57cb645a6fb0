"""The report of a comparison: tables in, one page and a few plots out."""
