"""What measurements are made into: tables, figures, the report, a publication."""
